"""Every numeric option of the losses on hidden @ kernel, in the form of `options.py`."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from mpmath import mpf

import stablelogits_jax as sl
from stablelogits_jax.verify._categorical_specs import categorical, squared
from stablelogits_jax.verify._modulated_specs import capped
from stablelogits_jax.verify._oracle import exp, log
from stablelogits_jax.verify._row_specs import log_probabilities

HIDDEN, KERNEL = [1.5, -0.75], np.array([[1.0, -0.5, 1.25], [0.5, 0.25, -1.5]], np.float32)
WEIGHTS = [0.5, 1.0, 2.0]


def smooth(y, s):
    return [(1 - s) * a + s / len(y) for a in y]


def linear(h):
    return [sum(a * w for a, w in zip(h, column, strict=True)) for column in KERNEL.T.tolist()]


def picked(x, y, weights=(1, 1, 1)):
    return categorical(x, [w * (i == y) for i, w in enumerate(weights)])


def statistics(x, y):
    p, z = [exp(a) for a in log_probabilities(x)], log(sum(exp(a) for a in x))
    return [x[y] - z, z, z - sum(a * b for a, b in zip(p, x, strict=True))]


# Of a loss on hidden @ kernel, as a function of the logits: each option, and the formula.
LINEAR = {
    "bias": (lambda x, y, b: picked([a + c for a, c in zip(x, b, strict=True)], y), [0.5, -1.0, 0.25]),
    "label_smoothing": (lambda x, y, s: categorical(x, smooth([mpf(i == y) for i in range(3)], s)), 0.125),
    "weights": (picked, WEIGHTS),
    "z_loss": (lambda x, y, z: picked(x, y) + z * squared(x), 0.125),
    "soft_cap": (lambda x, y, c: picked(capped(x, c), y), 2.5),
}


OPTIONS_OF_LINEAR: dict[str, tuple[Callable, Callable, tuple, Any]] = {
    "linear_softmax_cross_entropy_sum, token_weights": (
        lambda h, y, w: sl.linear_softmax_cross_entropy_sum(h, KERNEL, y, w),
        lambda h, y, w: w * picked(linear(h), y),
        (HIDDEN, 1),
        2.5,
    ),
    "linear_token_statistics, bias": (
        lambda h, y, b: jnp.stack(sl.linear_token_statistics(h, KERNEL, y, bias=b)),
        lambda h, y, b: statistics([a + c for a, c in zip(linear(h), b, strict=True)], y),
        (HIDDEN, 1),
        [0.5, -1.0, 0.25],
    ),
    "linear_token_statistics, soft_cap": (
        lambda h, y, c: jnp.stack(sl.linear_token_statistics(h, KERNEL, y, soft_cap=c)),
        lambda h, y, c: statistics(capped(linear(h), c), y),
        (HIDDEN, 1),
        2.5,
    ),
} | {
    f"{f.__name__}, {option}": (
        lambda h, y, o, f=f, option=option: f(h, KERNEL, y, **{option: o}),
        lambda h, y, o, of=formula: of(linear(h), y, o),
        (HIDDEN, 1),
        value,
    )
    for f in (sl.linear_softmax_cross_entropy, sl.linear_softmax_cross_entropy_sum)
    for option, (formula, value) in LINEAR.items()
}
