"""No legal input gives NaN: not in a value, nor in a slope where the value is finite. Each loss is asked with extreme
numbers in all of its arguments at once, drawn from what an argument may be; those of one example are in `test_ends.py`,
over a grid."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stablelogits_jax as sl

INFO = np.finfo(np.float32)
TINY, LARGEST, INF = float(INFO.tiny), float(INFO.max), float("inf")
SIZES = (0.0, TINY, 1e-30, 1e-8, 0.3, 1.0, 17.0, 88.0, 88.5, 104.0, 1e4, 1e19, 1e30, LARGEST, INF)
LOGITS = (*SIZES, *(-a for a in SIZES))
LOG_PROBABILITIES = (*(-a for a in SIZES), -1e-7, -0.5, -89.0)
LOG_NUMBERS = (*LOG_PROBABILITIES, 1.0, 10.0, 80.0)
POSITIVE = (TINY, 1e-30, 0.1, 0.5, 1.0, 2.0, 10.0, 1e30, LARGEST)
WEIGHTS = (0.0, *POSITIVE)
FACTORS = (0.0, 1e-30, 0.1, 1.0, 10.0, 1e30)  # sums of larger ones overflow
PROBABILITIES = (0.0, TINY, 1e-30, 1e-8, 1e-3, 0.25, 0.5, 0.9, 1 - 2.0**-24, 1.0)
EMBEDDINGS = (0.0, 1e-19, -1e-8, 1.0, -17.0, 88.0, -1e19)  # whose products are finite
EXPONENTS = (0.0, 0.1, 0.5, 1.0, 2.0, 3.0, 10.0, 1e4)
EPSILONS = (-1.0, -0.5, 0.0, 1.0, 2.0)
SMOOTHINGS, NOISE = (0.0, 0.1, 0.5, 1.0), (0.0, 0.1, 0.4)
LABELS = 0, 1, 2
DRAWS, CLASSES = 20_000, 3


def row(numbers):
    return numbers, (DRAWS, CLASSES)


def one(numbers):
    return numbers, (DRAWS,)


def first(f):
    """Of a function that gives a number for each class or pair, that of the first."""
    return lambda *args, **options: f(*args, **options)[0]


def larger_first(f):
    return lambda a, b: f(jnp.maximum(a, b), jnp.minimum(a, b))


def ordinal(x, y, cutpoint, gap):
    """Cutpoints in an order, or not finite."""
    return sl.ordinal_cross_entropy(x, y, jnp.stack([cutpoint, cutpoint + gap]))


SHAPED = {"label_smoothing": one(SMOOTHINGS), "weights": row(FACTORS)}
CAPPED = SHAPED | {"z_loss": one(FACTORS), "soft_cap": one(POSITIVE)}
ANSWERS, OF_TWO = [one(LOG_PROBABILITIES)] * 4, {"label_smoothing": one((*NOISE, 0.5))}
PAIRS = [(EMBEDDINGS, (DRAWS, 2, 1))] * 2
FUNCTIONS = {  # with what their arguments are drawn from: those by position, those by name
    **{name: (getattr(sl, name), [one(LOGITS)], {}) for name in ("sigmoid", "log_sigmoid", "softplus", "log_cosh")},
    **{name: (getattr(sl, name), [one(SIZES)], {}) for name in ("softplus_inverse", "log1mexp", "entr")},
    "logit": (sl.logit, [one(PROBABILITIES)], {}),
    "logitexp": (sl.logitexp, [one(LOG_PROBABILITIES)], {}),
    "logaddexp": (sl.logaddexp, [one(LOGITS)] * 2, {}),
    "logsubexp": (larger_first(sl.logsubexp), [one(LOGITS)] * 2, {}),
    "log_sigmoid_diff": (larger_first(sl.log_sigmoid_diff), [one(LOGITS)] * 2, {}),
    "xlogy": (sl.xlogy, [one(WEIGHTS), one(SIZES)], {}),
    "xlog1py": (sl.xlog1py, [one(WEIGHTS), one((*SIZES, -1.0, -0.5))], {}),
    "rel_entr": (sl.rel_entr, [one(WEIGHTS)] * 2, {}),
    "logsumexp": (sl.logsumexp, [row(LOGITS)], {"b": row(FACTORS)}),
    "logmeanexp": (sl.logmeanexp, [row(LOGITS)], {}),
    "softmax": (first(sl.softmax), [row(LOGITS)], {}),
    "log_softmax": (first(sl.log_softmax), [row(LOGITS)], {}),
    "entropy_from_logits": (sl.entropy_from_logits, [row(LOGITS)], {}),
    "kl_from_logits": (sl.kl_from_logits, [row(LOGITS)] * 2, {}),
    "log_prob_from_logits": (sl.log_prob_from_logits, [row(LOGITS), one(LABELS)], {}),
    "masked_mean": (sl.masked_mean, [row(SIZES)], {"weights": row(FACTORS)}),
    "sigmoid_binary_cross_entropy": (
        sl.sigmoid_binary_cross_entropy,
        [one(LOGITS), one(PROBABILITIES)],
        {"pos_weight": one(FACTORS), "label_smoothing": one(SMOOTHINGS)},
    ),
    "sigmoid_focal_loss": (
        sl.sigmoid_focal_loss,
        [one(LOGITS), one(PROBABILITIES), one(PROBABILITIES), one(EXPONENTS)],
        {},
    ),
    "softmax_cross_entropy": (sl.softmax_cross_entropy, [row(LOGITS), row(PROBABILITIES)], CAPPED),
    "softmax_cross_entropy_with_integer_labels": (
        sl.softmax_cross_entropy_with_integer_labels,
        [row(LOGITS), one(LABELS)],
        CAPPED,
    ),
    "softmax_focal_loss": (
        sl.softmax_focal_loss,
        [row(LOGITS), row(PROBABILITIES)],
        SHAPED | {"gamma": one(EXPONENTS)},
    ),
    "softmax_focal_loss_with_integer_labels": (
        sl.softmax_focal_loss_with_integer_labels,
        [row(LOGITS), one(LABELS)],
        SHAPED | {"gamma": one(EXPONENTS)},
    ),
    "poly_loss_cross_entropy": (
        sl.poly_loss_cross_entropy,
        [row(LOGITS), row(PROBABILITIES), one(EPSILONS)],
        {},
    ),
    "ordinal_cross_entropy": (ordinal, [one(LOGITS), one(LABELS), one(LOGITS), one(WEIGHTS)], {}),
    "smooth_labels": (first(sl.smooth_labels), [row(PROBABILITIES), one(SMOOTHINGS)], {}),
    "z_loss": (sl.z_loss, [row(LOGITS)], {}),
    "kl_divergence": (sl.kl_divergence, [row(LOG_PROBABILITIES), row(PROBABILITIES)], {}),
    "kl_divergence_with_log_targets": (sl.kl_divergence_with_log_targets, [row(LOG_PROBABILITIES)] * 2, {}),
    "generalized_kl_divergence": (sl.generalized_kl_divergence, [row(LOG_NUMBERS), row(WEIGHTS)], {}),
    "js_divergence": (sl.js_divergence, [row(LOG_PROBABILITIES)] * 2, {"beta": one(PROBABILITIES)}),
    "bernoulli_kl_from_logits": (sl.bernoulli_kl_from_logits, [one(LOGITS)] * 2, {}),
    "distillation_loss": (sl.distillation_loss, [row(LOGITS)] * 2, {"temperature": one(POSITIVE)}),
    "logit_matching_loss": (sl.logit_matching_loss, [row(LOGITS)] * 2, {}),
    "bradley_terry_loss": (sl.bradley_terry_loss, [one(LOGITS)] * 2, {"margin": one(WEIGHTS)}),
    "simpo_loss": (sl.simpo_loss, ANSWERS[:2], {"beta": one(WEIGHTS), "gamma": one(WEIGHTS)} | OF_TWO),
    "orpo_loss": (sl.orpo_loss, ANSWERS[:2], {"beta": one(WEIGHTS)}),
    "dpo_loss": (sl.dpo_loss, ANSWERS, {"beta": one(WEIGHTS)} | OF_TWO),
    "dpo_loss, robust": (
        partial(sl.dpo_loss, robust=True),
        ANSWERS,
        {"beta": one(WEIGHTS), "label_smoothing": one(NOISE)},
    ),
    "ipo_loss": (sl.ipo_loss, ANSWERS, {"beta": one(POSITIVE)}),
    "kto_loss": (
        sl.kto_loss,
        [*ANSWERS[:2], one((False, True))],
        {name: one(WEIGHTS) for name in ("kl", "beta", "desirable_weight", "undesirable_weight")},
    ),
    "info_nce_loss": (first(sl.info_nce_loss), PAIRS, {"temperature": one(POSITIVE)}),
    "sigmoid_contrastive_loss": (
        first(sl.sigmoid_contrastive_loss),
        PAIRS,
        {"scale": one(FACTORS), "bias": one(EMBEDDINGS)},
    ),
}
ELSEWHERE = {  # the same function under another name, and those of products of matrices, in test_linear_inputs.py
    "safe_softmax_cross_entropy",
    "convex_kl_divergence",
    "linear_softmax_cross_entropy",
    "linear_softmax_cross_entropy_sum",
    "linear_token_statistics",
}


def test_no_function_is_left_out():
    assert {name.partition(",")[0] for name in FUNCTIONS} | ELSEWHERE == set(sl.__all__)
    assert sl.safe_softmax_cross_entropy is sl.softmax_cross_entropy
    assert sl.convex_kl_divergence is sl.generalized_kl_divergence


def one_by_one(f):
    """Where `vmap` takes both branches of a condition, this takes one."""
    return lambda *args: jax.lax.map(lambda of_one: f(*of_one), args)


def drawn(rng, numbers, shape):
    x = rng.choice(np.asarray(numbers), shape)
    return jnp.asarray(x, jnp.float32) if x.dtype.kind == "f" else jnp.asarray(x)


@pytest.mark.parametrize(
    ("name", "over_all"),
    [(name, jax.vmap) for name in FUNCTIONS]
    + [(name, one_by_one) for name in ("kl_from_logits", "distillation_loss", "logit_matching_loss")],
)
def test_no_nan(name, over_all):
    function, by_position, by_name = FUNCTIONS[name]
    rng = np.random.default_rng(len(by_position))
    arguments = [drawn(rng, *of) for of in (*by_position, *by_name.values())]
    moved = tuple(i for i, a in enumerate(arguments) if a.dtype == jnp.float32)

    def f(*args):
        return function(*args[: len(by_position)], **dict(zip(by_name, args[len(by_position) :], strict=True)))

    values, slopes = jax.jit(over_all(jax.value_and_grad(f, moved)))(*arguments)
    assert not np.isnan(values).any()
    for slope in slopes:
        assert not np.isnan(slope[np.isfinite(values)]).any()
