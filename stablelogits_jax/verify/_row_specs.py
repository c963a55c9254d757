"""The functions along an axis. A row is tested with three classes: its curvature is a tensor of 27 numbers."""

from functools import partial
from math import inf, nan

import numpy as np
from mpmath import mpf

from stablelogits_jax.verify._grids import distributions, exp2, generator, integers, masks, rows
from stablelogits_jax.verify._oracle import exp, log, value_of
from stablelogits_jax.verify._scales import (
    average,
    divergence_curvature,
    divergence_slope,
    divergence_value,
    entropy_curvature,
    entropy_slope,
    factors_curvature,
    from_average,
    from_average_twice,
    softmax_curvature,
    tail,
    top,
    top_kept,
    top_or_log_n,
    top_or_one,
)
from stablelogits_jax.verify._spec import Limit, Spec

CLASSES = 3

# Formulas -----------------------------------------------------------------------------------------------------------


def log_sum_exp(x):
    return log(sum(exp(a) for a in x))


def log_probabilities(x):
    total = log_sum_exp(x)
    return [a - total for a in x]


def present(x, *others):
    """What is there: an absent class (a logit of -inf) changes nothing, and 0 log 0 is 0."""
    kept = [i for i, a in enumerate(x) if value_of(a) > -inf]
    return [[row[i] for i in kept] for row in (x, *others)]


def kept(where, *rows):
    return [[a for a, keep in zip(row, where, strict=True) if keep] for row in rows]


def entropy(x):
    (x,) = present(x)
    return -sum(exp(a) * a for a in log_probabilities(x))


def divergence(x, y):
    x, y = present(x, y)
    return sum(exp(a) * (a - b) for a, b in zip(log_probabilities(x), log_probabilities(y), strict=True))


# Grids --------------------------------------------------------------------------------------------------------------


def row(dtype, classes=CLASSES, **kind):
    return (rows(dtype, classes, **kind),)


def with_masks(dtype):
    (x,) = row(dtype)
    return x, masks(x)


def with_labels(dtype, **kind):
    (x,) = row(dtype, **kind)
    return x, integers(x)


def with_factors(dtype):
    (x,) = row(dtype)
    return x, exp2(generator().uniform(-4, 4, x.shape)).astype(dtype)


def two_rows(dtype, **kind):
    """Two rows of logits for the same classes: unrelated, close to one another, and equal."""
    (x,) = row(dtype, **kind)
    other = generator().permutation(row(dtype, **(kind | {"absent": False}))[0])
    which = np.arange(len(x))[:, None] % 4
    close = x.astype(np.float64) * (1 + 0.01 * generator().normal(size=x.shape))
    return x, np.choose(which, [other, other, close, x]).astype(dtype)


def losses(dtype):
    """Losses of a batch, with weights."""
    loss = rows(dtype, CLASSES, absent=False)
    return loss, distributions(dtype, loss) + np.asarray(0.125, dtype)


WHERE = {"options": "where", "call": lambda f: lambda *args: f(*args[:-1], where=args[-1], axis=-1)}

along_last = partial(partial, axis=-1)
ABSENT = (-inf,) * CLASSES
NONE = mpf(0)
ZEROS = (0.0,) * CLASSES
NO_SLOPES = (0.0,) * CLASSES**2
BETWEEN_TWO = (0.25, -0.25, 0, -0.25, 0.25, 0, 0, 0, 0)

ROWS = (
    Spec(
        "logsumexp",
        log_sum_exp,
        row,
        budget=(4, 4, 6),
        call=along_last,
        scale=(top, None, None),
        limits=(
            Limit((ABSENT,), -inf, ZEROS),
            Limit(((inf, 0, -inf),), inf, (1, 0, 0)),
            Limit(((inf, inf, 0),), inf, (0.5, 0.5, 0)),
            Limit(((-inf, 2, -inf),), 2, (0, 1, 0)),
            Limit(((0, nan, 0),), nan, (nan, nan, nan)),
        ),
        peer="jax.scipy.special.logsumexp",
    ),
    Spec(
        "logsumexp",
        lambda x, where: log_sum_exp(*kept(where, x)),
        with_masks,
        budget=(4, 4, 6),
        scale=(top_kept, None, None),
        peer="jax.scipy.special.logsumexp",
        **WHERE,
    ),
    Spec(
        "logsumexp",
        lambda x, b: log(sum(c * exp(a) for a, c in zip(x, b, strict=True))),
        with_factors,
        budget=(6, 6, 8),
        wrt=(0, 1),
        call=lambda f: lambda x, b: f(x, b=b, axis=-1),
        scale=(top_or_one, tail, factors_curvature),
        peer="jax.scipy.special.logsumexp",
        options="b",
    ),
    Spec(
        "logmeanexp",
        lambda x: log(sum(exp(a) for a in x) / len(x)),
        row,
        budget=(4, 4, 6),
        call=along_last,
        scale=(top_or_log_n, None, None),
        limits=(Limit((ABSENT,), -inf, ZEROS), Limit(((inf, 0, -inf),), inf, (1, 0, 0))),
    ),
    Spec(
        "softmax",
        lambda x: [exp(a) for a in log_probabilities(x)],
        row,
        budget=(4, 6, 8),
        scale=(None, None, softmax_curvature),
        limits=(
            Limit((ABSENT,), ZEROS, NO_SLOPES),
            Limit(((inf, 0, -inf),), (1, 0, 0), NO_SLOPES),
            Limit(((inf, inf, 0),), (0.5, 0.5, 0), BETWEEN_TWO),
            Limit(((0, nan, 0),), (nan, nan, nan)),
        ),
        peer="jax.nn.softmax",
    ),
    Spec(
        "softmax",
        lambda x, where: [exp(a - log_sum_exp(*kept(where, x))) if w else NONE for a, w in zip(x, where, strict=True)],
        with_masks,
        budget=(4, 6, 8),
        scale=(None, None, softmax_curvature),
        peer="jax.nn.softmax",
        **WHERE,
    ),
    Spec(
        "log_softmax",
        log_probabilities,
        row,
        budget=(4, 4, 6),
        limits=(
            Limit((ABSENT,), ABSENT, NO_SLOPES),
            Limit(((inf, 0, -inf),), (0, -inf, -inf)),
            Limit(((inf, inf, 0),), (-np.log(2), -np.log(2), -inf)),
            Limit(((0, nan, 0),), (nan, nan, nan)),
        ),
        peer="jax.nn.log_softmax",
    ),
    Spec(
        "entropy_from_logits",
        entropy,
        row,
        budget=(6, 8, 10),
        scale=(None, entropy_slope, entropy_curvature),
        limits=(
            Limit((ABSENT,), 0, ZEROS),
            Limit(((inf, 0, -inf),), 0, ZEROS),
            Limit(((inf, inf, 0),), np.log(2), ZEROS),
            Limit(((0, nan, 0),), nan),
        ),
    ),
    Spec(
        "kl_from_logits",
        divergence,
        two_rows,
        budget=(4, 4, 4),
        wrt=(0, 1),
        scale=(divergence_value, divergence_slope, divergence_curvature),
        limits=(
            Limit((ABSENT, ABSENT), 0, ZEROS + ZEROS),
            Limit((ABSENT, (0, 1, 0)), 0, ZEROS + ZEROS),
            Limit(((0, 0, -inf), (0, 0, 0)), np.log(1.5)),
            Limit(((0, 0, 0), (0, 0, -inf)), inf, (None, None, None, 1 / 6, 1 / 6, -1 / 3)),
            Limit(((0, 0, -inf), (0, 1, inf)), inf, (0, 0, 0, -0.5, -0.5, 1)),
            Limit(((0, nan, 0), (0, 0, 0)), nan),
        ),
    ),
    Spec(
        "log_prob_from_logits",
        lambda x, label: log_probabilities(x)[label],
        with_labels,
        budget=(4, 4, 8),
        limits=(
            Limit(((0, -inf, 0), 1), -inf, (-0.5, 1, -0.5)),
            Limit(((0, 0, 0), 3), nan, (nan, nan, nan)),
            Limit(((0, 0, 0), -1), nan, (nan, nan, nan)),
        ),
    ),
    Spec(
        "masked_mean",
        lambda loss, weights: sum(a * w for a, w in zip(loss, weights, strict=True)) / sum(weights),
        losses,
        budget=(6, 4, 8),
        wrt=(0, 1),
        call=lambda f: lambda loss, weights: f(loss, weights=weights, axis=-1),
        scale=(average, from_average, from_average_twice),
        options="weights",
    ),
    Spec(
        "masked_mean",
        lambda loss, where: sum(kept(where, loss)[0]) / sum(where),
        lambda dtype: (losses(dtype)[0], masks(losses(dtype)[0])),
        budget=(6, 4, 8),
        scale=(average, None, None),
        **WHERE,
    ),
)
