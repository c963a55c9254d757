"""Bad input is an error at trace time that names the function and the argument."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stablelogits_jax as sl

X, Y = jnp.zeros((4, 3)), jnp.ones((4, 3)) / 3
LABEL, KEEP = jnp.zeros(4, int), jnp.ones((4, 3), bool)

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
}
LOSSES = {
    "sigmoid_binary_cross_entropy": Y,
    "sigmoid_focal_loss": Y,
    "softmax_cross_entropy": Y,
    "safe_softmax_cross_entropy": Y,
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
            run(getattr(sl, name))(*[X.astype(kind)] * len(arguments))


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
        arguments = [X.astype(kind) if j == i else X for j in range(2)]
        with refused(TypeError, name, argument, kind):
            getattr(sl, name)(*arguments)
    if name != "kl_from_logits":
        assert getattr(sl, name)(X, 1).dtype == X.dtype


def test_labels_are_real():
    for name in ("sigmoid_binary_cross_entropy", "sigmoid_focal_loss", "softmax_cross_entropy"):
        with refused(TypeError, name, "labels", "complex64"):
            getattr(sl, name)(X, Y.astype("complex64"))
        with refused(TypeError, name, "labels"):
            getattr(sl, name)(X, jax.random.split(jax.random.key(0), (4, 3)))


@pytest.mark.parametrize("name", ARRAYS)
def test_python_integers_are_not_logits(name):
    with refused(TypeError, name, ARRAYS[name][0]):
        getattr(sl, name)(*[1] * len(ARRAYS[name]))


@pytest.mark.parametrize("thing", ["0.5", object(), {"a": 1}])
def test_not_an_array(thing):
    with refused(TypeError, "sigmoid", "x"):
        sl.sigmoid(thing)
    with refused(TypeError, "softmax_cross_entropy", "labels"):
        sl.softmax_cross_entropy(X, thing)


# By accident (4, 1) with (4,) would become (4, 4), and a single label the label of every example.
CASES = [
    (ValueError, "sigmoid_binary_cross_entropy labels", lambda f: f(jnp.zeros(4), jnp.zeros((4, 1)))),
    (ValueError, "sigmoid_binary_cross_entropy labels", lambda f: f(jnp.zeros((4, 1)), jnp.zeros(4))),
    (ValueError, "sigmoid_binary_cross_entropy labels", lambda f: f(jnp.zeros(4), jnp.zeros(3))),
    (ValueError, "sigmoid_binary_cross_entropy where", lambda f: f(jnp.zeros(4), jnp.zeros(4), where=KEEP)),
    (TypeError, "sigmoid_binary_cross_entropy where", lambda f: f(jnp.zeros(4), jnp.zeros(4), where=jnp.ones(4))),
    (ValueError, "sigmoid_binary_cross_entropy pos_weight", lambda f: f(X, Y, pos_weight=-1.0)),
    (ValueError, "sigmoid_binary_cross_entropy pos_weight", lambda f: f(X, Y, pos_weight=jnp.ones(4))),
    (ValueError, "sigmoid_binary_cross_entropy label_smoothing", lambda f: f(X, Y, label_smoothing=1.5)),
    (ValueError, "sigmoid_binary_cross_entropy label_smoothing", lambda f: f(X, Y, label_smoothing=-0.1)),
    (ValueError, "sigmoid_focal_loss labels", lambda f: f(jnp.zeros(4), jnp.zeros((4, 1)))),
    (ValueError, "sigmoid_focal_loss gamma", lambda f: f(X, Y, gamma=-1.0)),
    (ValueError, "sigmoid_focal_loss alpha", lambda f: f(X, Y, alpha=1.5)),
    (ValueError, "softmax_cross_entropy labels", lambda f: f(X, jnp.zeros(4))),
    (ValueError, "softmax_cross_entropy labels", lambda f: f(X, jnp.zeros((4, 4)))),
    (ValueError, "softmax_cross_entropy labels", lambda f: f(jnp.zeros(3), Y)),
    (ValueError, "softmax_cross_entropy labels softmax_cross_entropy_with_integer_labels", lambda f: f(X, LABEL)),
    (
        ValueError,
        "softmax_cross_entropy labels softmax_cross_entropy_with_integer_labels",
        lambda f: f(X, LABEL[:, None]),
    ),
    (ValueError, "softmax_cross_entropy axis", lambda f: f(1.0, 1.0)),
    (ValueError, "softmax_cross_entropy axis", lambda f: f(X, Y, axis=2)),
    (ValueError, "softmax_cross_entropy axis", lambda f: f(X, Y, axis=(1, -1))),
    (ValueError, "softmax_cross_entropy axis", lambda f: f(X, Y, axis="classes")),
    (ValueError, "softmax_cross_entropy axis", lambda f: f(X, Y, axis=1.0)),
    (ValueError, "softmax_cross_entropy where", lambda f: f(X, Y, where=jnp.ones(3, bool))),
    (TypeError, "softmax_cross_entropy where", lambda f: f(X, Y, where=jnp.ones((4, 3), int))),
    (ValueError, "softmax_cross_entropy label_smoothing", lambda f: f(X, Y, label_smoothing=2.0)),
    (ValueError, "softmax_cross_entropy weights", lambda f: f(X, Y, weights=jnp.ones(4))),
    (ValueError, "softmax_cross_entropy weights", lambda f: f(X, Y, weights=jnp.ones((4, 3)))),
    (TypeError, "softmax_cross_entropy weights", lambda f: f(X, Y, weights=jnp.ones(3, complex))),
    (ValueError, "softmax_cross_entropy z_loss", lambda f: f(X, Y, z_loss=-1.0)),
    (ValueError, "softmax_cross_entropy_with_integer_labels labels", lambda f: f(X, jnp.zeros((4, 1), int))),
    (ValueError, "softmax_cross_entropy_with_integer_labels labels", lambda f: f(X, jnp.zeros(3, int))),
    (ValueError, "softmax_cross_entropy_with_integer_labels labels", lambda f: f(X, 0)),
    (TypeError, "softmax_cross_entropy_with_integer_labels labels", lambda f: f(X, jnp.zeros(4))),
    (TypeError, "softmax_cross_entropy_with_integer_labels labels", lambda f: f(X, jnp.zeros(4, bool))),
    (TypeError, "softmax_cross_entropy_with_integer_labels ignore_index", lambda f: f(X, LABEL, ignore_index=0.5)),
    (ValueError, "softmax_cross_entropy_with_integer_labels axis", lambda f: f(X, LABEL, axis=-3)),
    (
        ValueError,
        "softmax_cross_entropy_with_integer_labels label_smoothing",
        lambda f: f(X, LABEL, label_smoothing=-1.0),
    ),
    (ValueError, "softmax_cross_entropy_with_integer_labels weights", lambda f: f(X, LABEL, weights=jnp.ones(4))),
    (ValueError, "log_prob_from_logits labels", lambda f: f(X, jnp.zeros((4, 1), int))),
    (TypeError, "log_prob_from_logits labels", lambda f: f(X, jnp.zeros(4))),
    (ValueError, "logsumexp axis", lambda f: f(X, axis=5)),
    (ValueError, "logsumexp axis", lambda f: f(X, axis=())),
    (ValueError, "logsumexp where", lambda f: f(X, where=jnp.ones((2, 4, 3), bool))),
    (ValueError, "logsumexp b", lambda f: f(X, b=jnp.ones(5))),
    (ValueError, "logmeanexp axis", lambda f: f(X, axis=-3)),
    (ValueError, "softmax axis", lambda f: f(X, axis=2)),
    (ValueError, "softmax axis", lambda f: f(jnp.float32(1.0))),
    (ValueError, "log_softmax where", lambda f: f(X, where=jnp.ones(5, bool))),
    (ValueError, "entropy_from_logits axis", lambda f: f(X, axis=(0, 0))),
    (ValueError, "kl_from_logits logits_q", lambda f: f(X, jnp.zeros((4, 1)))),
    (ValueError, "kl_from_logits logits_q", lambda f: f(X, jnp.zeros((4, 4)))),
    (ValueError, "masked_mean weights", lambda f: f(jnp.zeros(4), weights=jnp.ones((4, 1)))),
    (ValueError, "masked_mean where", lambda f: f(jnp.zeros(4), where=KEEP)),
    (TypeError, "masked_mean where", lambda f: f(jnp.zeros(4), where=jnp.ones(4))),
    (ValueError, "masked_mean axis", lambda f: f(jnp.zeros(4), axis=1)),
    (ValueError, "z_loss axis", lambda f: f(X, axis=2)),
    (ValueError, "smooth_labels alpha", lambda f: f(Y, 1.5)),
    (ValueError, "smooth_labels axis", lambda f: f(Y, 0.1, axis=2)),
    (TypeError, "smooth_labels labels", lambda f: f(LABEL, 0.1)),
    (ValueError, "logaddexp", lambda f: f(jnp.zeros(4), jnp.zeros(3))),
    (ValueError, "smooth_labels alpha", lambda f: f(Y, np.array(1.5))),
    (ValueError, "smooth_labels alpha", lambda f: f(Y, jnp.zeros((4, 1)))),
    (
        ValueError,
        "sigmoid_binary_cross_entropy label_smoothing",
        lambda f: f(X, Y, label_smoothing=jnp.zeros((2, 1, 1))),
    ),
    (ValueError, "softmax_cross_entropy label_smoothing", lambda f: f(X, Y, label_smoothing=jnp.zeros((4, 1)))),
    (ValueError, "softmax_cross_entropy_with_integer_labels z_loss", lambda f: f(X, LABEL, z_loss=jnp.zeros((4, 1)))),
    (TypeError, "sigmoid_binary_cross_entropy pos_weight", lambda f: f(X, Y, pos_weight=np.array([1j, 2, 3]))),
    (TypeError, "sigmoid_binary_cross_entropy pos_weight", lambda f: f(X, Y, pos_weight=np.array(["a", "b", "c"]))),
    (ValueError, "softmax_cross_entropy_with_integer_labels ignore_index", lambda f: f(X, LABEL, ignore_index=2**40)),
    (
        ValueError,
        "softmax_cross_entropy_with_integer_labels ignore_index uint8",
        lambda f: f(X, LABEL.astype("uint8"), ignore_index=-1),
    ),
    (ValueError, "softmax_cross_entropy where example", lambda f: f(X, Y, where=jnp.ones(3, bool))),
    (ValueError, "softmax_cross_entropy", lambda f: f(jnp.zeros((2, 0)), jnp.zeros((2, 0)))),
    (ValueError, "softmax_cross_entropy_with_integer_labels", lambda f: f(jnp.zeros((2, 0)), jnp.zeros(2, int))),
    (ValueError, "log_prob_from_logits", lambda f: f(jnp.zeros((2, 0)), jnp.zeros(2, int))),
    (ValueError, "smooth_labels", lambda f: f(jnp.zeros((2, 0)), 0.1)),
]


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


def test_every_name_is_here():
    assert {*ARRAYS, *LOSSES, "smooth_labels"} == set(sl.__all__)


def test_numpy_types_are_refused_alike():
    for value in (np.int64(1), np.bool_(True), np.zeros(3, np.int8)):
        with refused(TypeError, "sigmoid", "x"):
            sl.sigmoid(value)
