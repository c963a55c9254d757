"""Focal and poly losses, capped logits and the ordered logistic loss. Every float type holds the options exactly."""

from functools import partial
from math import inf, nan

import numpy as np
from mpmath import mpf

from stablelogits_jax.verify._categorical_specs import (
    SMOOTHING,
    WEIGHTS,
    categorical,
    nothing_absent,
    one_hot,
    smoothed,
    smoothed_labels,
    weighted,
    weighted_labels,
    with_ignored,
    with_labels_and_masks,
    with_shares,
)
from stablelogits_jax.verify._elementwise_specs import sigmoid
from stablelogits_jax.verify._grids import exp2, flushed, generator, line, unflushed
from stablelogits_jax.verify._modulated_scales import (
    capped_curvature,
    capped_slope,
    capped_value,
    cut_tail,
    focal_sizes,
    modulated_curvature,
    modulated_slope,
    modulated_value,
    of_integers,
    ordinal_slope,
    poly_sizes,
)
from stablelogits_jax.verify._oracle import Number, exp, log, power, value_of
from stablelogits_jax.verify._row_specs import ABSENT, NONE, ZEROS, kept, log_probabilities, present, with_labels
from stablelogits_jax.verify._spec import Limit, Spec

GAMMA, EPSILON, CAP = 1.5, 2.0, 8.0
CUTS = 3


# Formulas ---------------------------------------------------------------------------------------------------------


def modulated(x, y, h):
    """sum y h(log p, 1 - p)"""
    x, y = present(x, y)
    logs = log_probabilities(x)
    misses = [sum((exp(b) for j, b in enumerate(logs) if j != i), NONE) for i in range(len(logs))]
    return sum(share * h(a, miss) for a, miss, share in zip(logs, misses, y, strict=True))


def focal(x, y, gamma: Number = 2.0):
    return modulated(x, y, lambda log_p, miss: -power(miss, gamma) * log_p if value_of(miss) > 0 else NONE)


def poly(x, y, epsilon=EPSILON):
    return modulated(x, y, lambda log_p, miss: epsilon * miss - log_p)


def tanh(a):
    e = exp(-2 * a if value_of(a) > 0 else 2 * a)
    y = (1 - e) / (1 + e)
    return y if value_of(a) > 0 else -y


def capped(x, cap=CAP):
    return [cap * tanh(a / cap) for a in x]


def ordinal(x, label, c):
    below = sigmoid(x - c[label - 1]) if label > 0 else mpf(1)
    above = sigmoid(x - c[label]) if label < len(c) else mpf(0)
    return -log(below - above)


# Grids ------------------------------------------------------------------------------------------------------------


def not_flushed(grid, gamma):
    """The grid with rows moved together where a power of 1 - p times one of p is about the smallest normal number."""

    def moved(dtype):
        x, *others = grid(dtype)
        exponents = [1, 2, *(gamma + n for n in range(-1, 3))]
        while (near := np.any([flushed(n * x.astype(np.float64), dtype) for n in exponents], (0, 2))).any():
            x[near] /= 2
        return x, *others

    return moved


def logits_between_cutpoints(dtype):
    """Logits with a label and cutpoints that are near to one another, or far; and near the logit, or far."""
    rng = generator()
    (x,) = line(dtype, keep=lambda x: np.abs(x) < 1e4)
    x = x[: x.size // 4]
    gaps = exp2(rng.uniform(-8, 6, (x.size, CUTS)))
    first = rng.choice([0, 1], (x.size, 1)) * x[:, None].astype(np.float64) + rng.normal(size=(x.size, 1)) * 4
    c = (first + np.cumsum(gaps, 1) - gaps[:, :1]).astype(dtype)
    wide = c.astype(np.float64)
    apart = np.all(np.diff(wide) > 0, 1) & np.all(unflushed(dtype, np.abs(x[:, None] - wide)), 1)
    label = rng.integers(CUTS + 1, size=x.size).astype(np.int32)
    return x[apart][:64], label[apart][:64], c[apart][:64]


def scales(sizes, **kind):
    return tuple(
        partial(scale, sizes=sizes, **kind) for scale in (modulated_value, modulated_slope, modulated_curvature)
    )


QUARTER = 0.25 * float(np.log(2.0))
SLOPE = 0.5 * (0.25 + 2 * 0.5 * 0.5 * float(np.log(2.0)))  # (1 - p) h' with h' = (1 - p)^2 + 2 s (1 - p) p
FOCAL_LIMITS = (
    Limit(((0, -inf, 0), 1), inf, (0.5, -1, 0.5)),
    Limit(((0, -inf, 0), 0), QUARTER, (-SLOPE, 0, SLOPE)),
    Limit(((inf, 0, 0), 0), 0, ZEROS),
    Limit(((inf, 0, 0), 1), inf, (1, -1, 0)),
    Limit((ABSENT, 0), inf, ZEROS),
    Limit(((0, nan, 0), 0), nan, (nan, nan, nan)),
    Limit(((0, 0, 0), 3), nan, (nan, nan, nan)),
    Limit(((0, 0, 0), -1), nan, (nan, nan, nan)),
)
DENSE_LIMITS = tuple(
    Limit(
        (limit.args[0], tuple(map(float, one_hot(limit.args[1])))),
        limit.value,
        limit.slopes and (*limit.slopes, None, None, None),
    )
    for limit in FOCAL_LIMITS[:5]
)
FOCAL = partial(Spec, "softmax_focal_loss", wrt=(0, 1), budget=(6, 8, 12))
INTEGER = partial(Spec, "softmax_focal_loss_with_integer_labels", budget=(6, 8, 12))
CAPPED = partial(
    Spec,
    budget=(4, 4, 8),
    wrt=(0,),
    call=lambda f: partial(f, soft_cap=CAP),
    options="soft_cap",
)

MODULATED = (
    FOCAL(focal, not_flushed(partial(with_shares, absent=False), 2.0), scale=scales(focal_sizes), limits=DENSE_LIMITS),
    FOCAL(
        lambda x, y: focal(x, weighted(y), GAMMA),
        not_flushed(partial(with_shares, absent=False), GAMMA),
        call=lambda f: lambda x, y: f(x, y, gamma=GAMMA, weights=np.asarray(WEIGHTS, x.dtype)),
        scale=scales(partial(focal_sizes, gamma=GAMMA), labels=weighted_labels),
        options="gamma, weights",
    ),
    INTEGER(
        lambda x, label: focal(x, one_hot(label)),
        not_flushed(with_labels, 2.0),
        scale=of_integers(scales(focal_sizes)),
        limits=FOCAL_LIMITS,
    ),
    INTEGER(
        lambda x, label, where: focal(*kept(where, x, one_hot(label))),
        not_flushed(with_labels_and_masks, 2.0),
        call=lambda f: lambda x, label, where: f(x, label, where=where),
        scale=of_integers(scales(focal_sizes)),
        options="where",
    ),
    INTEGER(
        lambda x, label: focal(x, one_hot(label), GAMMA) if label >= 0 else mpf(0),
        not_flushed(with_ignored, GAMMA),
        call=lambda f: partial(f, gamma=GAMMA, ignore_index=-7),
        scale=of_integers(scales(partial(focal_sizes, gamma=GAMMA))),
        limits=(Limit(((nan, inf, -inf), -7), 0, ZEROS), Limit(((0, 0, 0), -1), nan, (nan, nan, nan))),
        options="gamma, ignore_index",
    ),
    INTEGER(
        lambda x, label: focal(x, smoothed(one_hot(label))),
        not_flushed(nothing_absent, 2.0),
        call=lambda f: partial(f, label_smoothing=SMOOTHING),
        scale=of_integers(scales(focal_sizes, labels=smoothed_labels)),
        options="label_smoothing",
    ),
    Spec(
        "poly_loss_cross_entropy",
        poly,
        partial(with_shares, absent=False),
        budget=(4, 4, 8),
        wrt=(0, 1),
        scale=scales(poly_sizes),
        limits=(
            Limit(((inf, 0, 0), (1, 0, 0)), 0, ZEROS + (None,) * 3),
            Limit(((0, -inf, 0), (0, 1, 0)), inf, (0.5, -1, 0.5, None, None, None)),
            Limit((ABSENT, (1, 0, 0)), inf, ZEROS + (None,) * 3),
            Limit(((0, nan, 0), (1, 0, 0)), nan),
        ),
        peer="optax.losses.poly_loss_cross_entropy",
    ),
    CAPPED(
        "softmax_cross_entropy",
        lambda x, y: categorical(capped(x), y),
        partial(with_shares, absent=False),
        scale=tuple(partial(scale, cap=CAP) for scale in (capped_value, capped_slope, capped_curvature)),
    ),
    CAPPED(
        "softmax_cross_entropy_with_integer_labels",
        lambda x, label: -log_probabilities(capped(x))[label],
        nothing_absent,
        scale=of_integers(partial(scale, cap=CAP) for scale in (capped_value, capped_slope, capped_curvature)),
        limits=(
            Limit(((0, -inf, 0), 1), inf, (0.5, 0, 0.5)),
            Limit(((0, -inf, 0), 0), float(np.log(2.0)), (-0.5, 0, 0.5)),
            Limit((ABSENT, 0), inf, ZEROS),
        ),
    ),
    Spec(
        "ordinal_cross_entropy",
        ordinal,
        logits_between_cutpoints,
        budget=(4, 4, 8),
        wrt=(0, 2),
        scale=(cut_tail, ordinal_slope, cut_tail),
        limits=(
            Limit((inf, 3, (-1, 0, 1)), 0, (0, 0, 0, 0)),
            Limit((-inf, 0, (-1, 0, 1)), 0, (0, 0, 0, 0)),
            Limit((inf, 0, (-1, 0, 1)), inf, (1, -1, 0, 0)),
            Limit((-inf, 3, (-1, 0, 1)), inf, (-1, 0, 0, 1)),
            Limit((0, 1, (0, 0, 1)), inf),
            Limit((0, 4, (-1, 0, 1)), nan, (nan, None, None, None)),
            Limit((0, -1, (-1, 0, 1)), nan, (nan, None, None, None)),
            Limit((nan, 1, (-1, 0, 1)), nan, (nan, None, None, None)),
        ),
    ),
)
