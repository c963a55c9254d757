"""Bad input is an error at trace time that names the function and the argument."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_calls import CASES, CUTS, KEEP, LABEL, X, Y

import stablelogits_jax as sl

ARRAYS = {  # every public function, by the arguments that must be floating point
    "sigmoid": ("x",),
    "log_sigmoid": ("x",),
    "softplus": ("x",),
    "softplus_inverse": ("y",),
    "logit": ("x",),
    "logitexp": ("log_p",),
    "log1mexp": ("x",),
    "log_cosh": ("predictions",),
    "entr": ("x",),
    "logaddexp": ("a", "b"),
    "logsubexp": ("a", "b"),
    "log_sigmoid_diff": ("a", "b"),
    "xlogy": ("x", "y"),
    "xlog1py": ("x", "y"),
    "rel_entr": ("p", "q"),
    "logsumexp": ("a",),
    "logmeanexp": ("x",),
    "softmax": ("x",),
    "log_softmax": ("x",),
    "entropy_from_logits": ("logits",),
    "kl_from_logits": ("logits_p", "logits_q"),
    "masked_mean": ("loss",),
    "z_loss": ("logits",),
    "ordinal_cross_entropy": ("logits",),
    "info_nce_loss": ("queries", "keys"),
    "sigmoid_contrastive_loss": ("queries", "keys"),
    "kl_divergence": ("log_predictions",),
    "generalized_kl_divergence": ("log_predictions",),
    "kl_divergence_with_log_targets": ("log_predictions", "log_targets"),
    "js_divergence": ("log_predictions", "log_targets"),
    "bernoulli_kl_from_logits": ("logits_p", "logits_q"),
    "distillation_loss": ("logits", "teacher_logits"),
    "logit_matching_loss": ("logits", "teacher_logits"),
    "bradley_terry_loss": ("chosen", "rejected"),
    "simpo_loss": ("chosen_logps", "rejected_logps"),
    "orpo_loss": ("chosen_logps", "rejected_logps"),
    "dpo_loss": ("chosen_logps", "rejected_logps", "ref_chosen_logps", "ref_rejected_logps"),
    "ipo_loss": ("chosen_logps", "rejected_logps", "ref_chosen_logps", "ref_rejected_logps"),
    "kto_loss": ("logps", "ref_logps"),
    "linear_softmax_cross_entropy": ("hidden", "kernel"),
    "linear_softmax_cross_entropy_sum": ("hidden", "kernel"),
    "linear_token_statistics": ("hidden", "kernel"),
}
REST = {  # what follows them
    "ordinal_cross_entropy": (KEEP.astype(int), CUTS),
    "kl_divergence": (Y,),
    "generalized_kl_divergence": (Y,),
    "kto_loss": (KEEP,),
    "linear_softmax_cross_entropy": (LABEL,),
    "linear_softmax_cross_entropy_sum": (LABEL,),
    "linear_token_statistics": (LABEL,),
}
BROADCASTING = ("logaddexp", "logsubexp", "log_sigmoid_diff", "xlogy", "xlog1py", "rel_entr")
LOSSES = {
    "sigmoid_binary_cross_entropy": Y,
    "sigmoid_focal_loss": Y,
    "softmax_cross_entropy": Y,
    "safe_softmax_cross_entropy": Y,
    "softmax_focal_loss": Y,
    "poly_loss_cross_entropy": Y,
    "softmax_focal_loss_with_integer_labels": LABEL,
    "log_prob_from_logits": LABEL,
    "softmax_cross_entropy_with_integer_labels": LABEL,
}
FORBIDDEN = ["int32", "bool", "uint8", "complex64", "float8_e4m3fn"]


def refused(exception, *words):
    """An error that says each of the words."""
    return pytest.raises(exception, match="".join(rf"(?=[\s\S]*\b{word}\b)" for word in words))


@pytest.mark.parametrize("kind", FORBIDDEN)
@pytest.mark.parametrize("name", ARRAYS)
def test_type_of_logits(name, kind):
    arguments = ARRAYS[name]
    for run in (lambda f: f, jax.jit):
        with refused(TypeError, name, arguments[0], kind):
            run(getattr(sl, name))(*[X.astype(kind)] * len(arguments), *REST.get(name, ()))


@pytest.mark.parametrize("kind", FORBIDDEN)
@pytest.mark.parametrize("name", LOSSES)
def test_type_of_logits_of_a_loss(name, kind):
    for run in (lambda f: f, jax.jit):
        with refused(TypeError, name.removeprefix("safe_"), "logits", kind):
            run(getattr(sl, name))(X.astype(kind), LOSSES[name])


@pytest.mark.parametrize("kind", ["int32", "bool"])
@pytest.mark.parametrize("name", [name for name in ARRAYS if len(ARRAYS[name]) > 1])
def test_type_of_one_argument(name, kind):
    """A float beside it does not make an array of integers one; a Python number is."""
    for i, argument in enumerate(ARRAYS[name]):
        arguments = [X.astype(kind) if j == i else X for j in range(len(ARRAYS[name]))]
        with refused(TypeError, name, argument, kind):
            getattr(sl, name)(*arguments, *REST.get(name, ()))
    if name in BROADCASTING:
        assert getattr(sl, name)(X, 1).dtype == X.dtype


def test_labels_are_real():
    for name in (name for name, labels in LOSSES.items() if labels is Y and "safe" not in name):
        with refused(TypeError, name, "labels", "complex64"):
            getattr(sl, name)(X, Y.astype("complex64"))
        with refused(TypeError, name, "labels"):
            getattr(sl, name)(X, jax.random.split(jax.random.key(0), (4, 3)))


@pytest.mark.parametrize("name", ARRAYS)
def test_python_integers_are_not_logits(name):
    with refused(TypeError, name, ARRAYS[name][0]):
        getattr(sl, name)(*[1] * len(ARRAYS[name]), *REST.get(name, ()))


@pytest.mark.parametrize("thing", ["0.5", object(), {"a": 1}])
def test_not_an_array(thing):
    with refused(TypeError, "sigmoid", "x"):
        sl.sigmoid(thing)
    with refused(TypeError, "softmax_cross_entropy", "labels"):
        sl.softmax_cross_entropy(X, thing)


@pytest.mark.parametrize(("exception", "words", "call"), CASES, ids=[f"{i}-{c[1]}" for i, c in enumerate(CASES)])
def test_refused(exception, words, call):
    """In eager mode, and while tracing: the error needs no values."""
    name, *arguments = words.split()
    for context in (lambda: call(getattr(sl, name)), lambda: jax.eval_shape(lambda: call(getattr(sl, name)))):
        with refused(exception, name, *arguments):
            context()


def test_options_by_keyword_alone():
    with pytest.raises(TypeError, match="positional"):
        sl.sigmoid_binary_cross_entropy(X, Y, 1.0)  # type: ignore
    with pytest.raises(TypeError, match="positional"):
        sl.softmax_cross_entropy(X, Y, -1, None, 0.1)  # type: ignore
    with pytest.raises(TypeError, match="positional"):
        sl.softmax_cross_entropy_with_integer_labels(X, LABEL, -1, None, 0)  # type: ignore
    with pytest.raises(TypeError, match="positional"):
        sl.dpo_loss(X, X, X, X, 0.1)  # type: ignore


# What many functions have in common, and what none of them takes.
SHARED = {
    "axis": (ValueError, 7),
    "axis_name": (ValueError, "absent"),
    "ignore_index": (TypeError, 0.5),
    "label_smoothing": (ValueError, 1.5),
    "soft_cap": (ValueError, 0.0),
    "temperature": (ValueError, -1.0),
    "weights": (ValueError, jnp.ones(7)),
    "where": (TypeError, jnp.ones((4, 3))),
    "z_loss": (ValueError, -1.0),
}


def parameters(name):
    return inspect.signature(getattr(sl, name)).parameters


def arguments(name):
    """What a function takes."""
    if name.startswith("linear"):
        return X, jnp.zeros((3, 5)), LABEL
    if name == "ordinal_cross_entropy":
        return X, jnp.zeros(X.shape, int), CUTS
    if name in ("smooth_labels", "convex_kl_divergence"):
        return Y, Y[0, 0] if name == "smooth_labels" else Y
    return X, *([X] * (len(ARRAYS[name]) - 1) if name in ARRAYS else [LOSSES[name]]), *REST.get(name, ())


@pytest.mark.parametrize("name", sl.__all__)
def test_what_functions_have_in_common(name):
    said = {"safe_softmax_cross_entropy": "softmax_cross_entropy", "convex_kl_divergence": "generalized_kl_divergence"}
    getattr(sl, name)(*arguments(name))
    for parameter, (exception, value) in SHARED.items():
        if parameter in parameters(name):
            with refused(exception, said.get(name, name), parameter):
                getattr(sl, name)(*arguments(name), **{parameter: value})


def test_each_parameter_is_refused_something():
    """Of each function, but for flags that take any truth value, as jax.nn's do."""
    tried = {(name, word) for _, words, _ in CASES for name, *rest in [words.split()] for word in rest}
    tried |= {(name, argument) for name in ARRAYS for argument in ARRAYS[name]} | {(name, "logits") for name in LOSSES}
    aliases = {"safe_softmax_cross_entropy", "convex_kl_divergence"}
    left = {(name, p) for name in set(sl.__all__) - aliases for p in parameters(name) if p not in SHARED} - tried
    assert left == {("logsumexp", "keepdims"), ("logsumexp", "return_sign"), ("logmeanexp", "keepdims")}


def test_no_such_mesh_axes():
    for name in (name for name in sl.__all__ if "axis_name" in parameters(name)):
        with refused(ValueError, name.removeprefix("safe_"), "axis_name", "absent"):
            getattr(sl, name)(*arguments(name), axis_name=("absent", "none"))


def test_every_name_is_here():
    assert {*ARRAYS, *LOSSES, "smooth_labels", "convex_kl_divergence"} == set(sl.__all__)


def test_numpy_types_are_refused_alike():
    for value in (np.int64(1), np.bool_(True), np.zeros(3, np.int8)):
        with refused(TypeError, "sigmoid", "x"):
            sl.sigmoid(value)
