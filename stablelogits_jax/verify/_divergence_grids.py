"""Inputs of the divergences: pairs of distributions, known by their logs or their logits."""

from functools import partial
from math import inf

import jax.numpy as jnp
import numpy as np

from stablelogits_jax.verify._grids import exp, exp2, flushed, generator, log, masks, plane, rows, unflushed
from stablelogits_jax.verify._row_specs import CLASSES, two_rows


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - np.max(x, axis=-1, keepdims=True)
    return x - log(np.sum(exp(x), axis=-1, keepdims=True))


def two_distributions(dtype, equal=True):
    """Log-predictions and log-targets of the same classes: unrelated, close to one another, and equal or not."""
    log_q = log_softmax(rows(dtype, CLASSES, absent=False)).astype(dtype)
    close = log_q.astype(np.float64) * (1 + 0.01 * generator().normal(size=log_q.shape))
    other = generator().permutation(log_q)
    other = np.where(np.all(other == log_q, axis=-1, keepdims=True), close, other)
    kinds = [other, other, close, log_q if equal else other]
    return log_q, np.choose(np.arange(len(log_q))[:, None] % 4, kinds).astype(dtype)


def with_targets(dtype, **kind):
    """The targets themselves, of which none is 0, and some rows do not sum to 1."""
    log_q, log_t = two_distributions(dtype, **kind)
    least = 2.0 ** max(int(jnp.finfo(dtype).minexp) + 2, -40)
    size = exp2(np.where(np.arange(len(log_q)) % 5 == 0, generator().uniform(-4, 4, len(log_q)), 0))
    return log_q, np.maximum(exp(log_t.astype(np.float64)) * size[:, None], least).astype(dtype)


not_equal = partial(with_targets, equal=False)  # equal ones differ by what is rounded off the logarithm


def with_weights(dtype):
    """Weights from 0 to 1, most of them close to an end."""
    log_q, log_t = two_distributions(dtype)
    rng, count = generator(), len(log_q)
    small = exp2(-rng.uniform(1, max(14, jnp.finfo(dtype).nmant), count))
    near_one = 1 - exp2(-rng.uniform(1, jnp.finfo(dtype).nmant, count))
    return log_q, log_t, np.choose(np.arange(count) % 3, [small, near_one, rng.random(count)]).astype(dtype)


def some_absent(grid, none):
    """Half of the rows with a class of no target, in half of which it has no prediction either."""

    def of(dtype):
        log_q, t = grid(dtype)
        here = (np.arange(CLASSES) == generator().integers(CLASSES, size=(len(t), 1))) & (np.arange(len(t)) % 2 == 0)[
            :, None
        ]
        gone = here & (np.arange(len(t)) % 4 == 0)[:, None]
        return np.where(gone, np.asarray(-inf, dtype), log_q), np.where(here, np.asarray(none, dtype), t)

    return of


def masked(grid):
    def of(dtype):
        x, y = grid(dtype)
        return x, y, masks(np.zeros(x.shape))

    return of


def two_logits(dtype):
    """Pairs of logits; none of which the smaller probability is flushed, or its product with the other logit."""

    def keep(x, y):
        products = np.abs(x) - log(np.maximum(np.abs(y), 1))
        return unflushed(dtype, np.abs(x)) & unflushed(dtype, np.abs(y)) & unflushed(dtype, products)

    return plane(dtype, keep)


def logits_of_both(dtype):
    """Two rows of logits; a class that is absent from one is from the other."""
    x, t = two_rows(dtype)
    return x, np.where(x > -inf, t, x)


def with_temperatures(dtype):
    """Temperatures from 2^-3 to 2^17, of float16 2^15, but 1 where a probability would be flushed."""
    x, t = two_rows(dtype)
    largest = jnp.finfo(dtype).maxexp - 1
    temperature = exp2(np.minimum(generator().permutation(np.arange(len(x)) % 21 - 3), largest)).astype(dtype)
    wide, over = temperature[:, None].astype(np.float64), (x.astype(np.float64), t.astype(np.float64))
    near = np.any([flushed(a / wide, dtype) for a in over], axis=(0, 2))
    return x, t, np.where(near, np.ones_like(temperature), temperature)
