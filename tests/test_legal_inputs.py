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
EXPONENTS = (0.0, 0.1, 0.5, 1.0, 2.0, 3.0, 10.0)
EPSILONS = (-1.0, -0.5, 0.0, 1.0, 2.0)
SMOOTHINGS, NOISE = (0.0, 0.1, 0.5, 1.0), (0.0, 0.1, 0.4)
LABELS = 0, 1, 2
DRAWS, CLASSES = 20_000, 3


def row(numbers):
    return numbers, (DRAWS, CLASSES)


def one(numbers):
    return numbers, (DRAWS,)


def ordinal(x, y, first, gap):
    """Cutpoints in an order, or not finite."""
    return sl.ordinal_cross_entropy(x, y, jnp.stack([first, first + gap]))


SHAPED = {"label_smoothing": one(SMOOTHINGS), "weights": row(FACTORS)}
ANSWERS = [one(LOG_PROBABILITIES)] * 4
FUNCTIONS = {  # with what their arguments are drawn from: those by position, those by name
    sl.sigmoid_focal_loss: ((one(LOGITS), one(PROBABILITIES), one(PROBABILITIES), one(EXPONENTS)), {}),
    sl.softmax_cross_entropy: (
        (row(LOGITS), row(PROBABILITIES)),
        SHAPED | {"z_loss": one(FACTORS), "soft_cap": one(POSITIVE)},
    ),
    sl.softmax_cross_entropy_with_integer_labels: (
        (row(LOGITS), one(LABELS)),
        SHAPED | {"z_loss": one(FACTORS), "soft_cap": one(POSITIVE)},
    ),
    sl.softmax_focal_loss: ((row(LOGITS), row(PROBABILITIES)), SHAPED | {"gamma": one(EXPONENTS)}),
    sl.softmax_focal_loss_with_integer_labels: ((row(LOGITS), one(LABELS)), SHAPED | {"gamma": one(EXPONENTS)}),
    sl.poly_loss_cross_entropy: ((row(LOGITS), row(PROBABILITIES), one(EPSILONS)), {}),
    ordinal: ((one(LOGITS), one(LABELS), one(LOGITS), one(WEIGHTS)), {}),
    sl.z_loss: ((row(LOGITS),), {}),
    sl.entropy_from_logits: ((row(LOGITS),), {}),
    sl.kl_from_logits: ((row(LOGITS), row(LOGITS)), {}),
    sl.kl_divergence: ((row(LOG_PROBABILITIES), row(PROBABILITIES)), {}),
    sl.kl_divergence_with_log_targets: ((row(LOG_PROBABILITIES), row(LOG_PROBABILITIES)), {}),
    sl.generalized_kl_divergence: ((row(LOG_NUMBERS), row(WEIGHTS)), {}),
    sl.js_divergence: ((row(LOG_PROBABILITIES), row(LOG_PROBABILITIES)), {"beta": one(PROBABILITIES)}),
    sl.distillation_loss: ((row(LOGITS), row(LOGITS)), {"temperature": one(POSITIVE)}),
    sl.logit_matching_loss: ((row(LOGITS), row(LOGITS)), {}),
    sl.dpo_loss: (ANSWERS, {"beta": one(WEIGHTS), "label_smoothing": one((*NOISE, 0.5))}),
    partial(sl.dpo_loss, robust=True): (ANSWERS, {"beta": one(WEIGHTS), "label_smoothing": one(NOISE)}),
    sl.ipo_loss: (ANSWERS, {"beta": one(POSITIVE)}),
    sl.logsumexp: ((row(LOGITS),), {"b": row(FACTORS)}),
    sl.log_prob_from_logits: ((row(LOGITS), one(LABELS)), {}),
}


def drawn(rng, numbers, shape):
    x = rng.choice(np.asarray(numbers), shape)
    return jnp.asarray(x, jnp.float32) if x.dtype.kind == "f" else jnp.asarray(x)


@pytest.mark.parametrize("loss", FUNCTIONS, ids=lambda f: getattr(f, "__name__", "dpo_loss, robust"))
def test_no_nan(loss):
    by_position, by_name = FUNCTIONS[loss]
    rng = np.random.default_rng(len(by_position))
    arguments = [drawn(rng, *of) for of in (*by_position, *by_name.values())]
    moved = tuple(i for i, a in enumerate(arguments) if a.dtype == jnp.float32)

    def f(*args):
        return loss(*args[: len(by_position)], **dict(zip(by_name, args[len(by_position) :], strict=True)))

    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(f, moved)))(*arguments)
    assert not np.isnan(values).any()
    for slope in slopes:
        assert not np.isnan(slope[np.isfinite(values)]).any()
