"""The losses on several logits, and what belongs to their labels. Every float type holds the options exactly."""

from functools import partial
from math import inf, nan

import numpy as np
from mpmath import mpf

from stablelogits_jax.verify._grids import distributions, generator, integers, masks, rows
from stablelogits_jax.verify._row_specs import (
    ABSENT,
    CLASSES,
    ZEROS,
    kept,
    log_probabilities,
    log_sum_exp,
    present,
    row,
    with_labels,
)
from stablelogits_jax.verify._scales import (
    categorical_slope,
    in_logits,
    integer_curvature,
    integer_slope,
    z_curvature,
    z_slope,
    z_value,
)
from stablelogits_jax.verify._spec import Limit, Spec

SMOOTHING, Z = 0.125, 0.25
WEIGHTS = (0.5, 1.0, 2.0)


def categorical(x, y):
    x, y = present(x, y)
    return -sum(a * b for a, b in zip(log_probabilities(x), y, strict=True))


def smoothed(y):
    return [(1 - SMOOTHING) * a + mpf(SMOOTHING) / len(y) for a in y]


def one_hot(label):
    return [mpf(i == label) for i in range(CLASSES)]


def weighted(y):
    return [w * a for w, a in zip(WEIGHTS, y, strict=True)]


def squared(x):
    return log_sum_exp(x) * log_sum_exp(x)


def with_shares(dtype, **kind):
    (x,) = row(dtype, **kind)
    return x, distributions(dtype, x)


def with_shares_and_masks(dtype):
    x, y = with_shares(dtype)
    where = masks(x)
    return x, np.where(where, y, 0).astype(y.dtype), where


def with_labels_and_masks(dtype):
    x, label = with_labels(dtype)
    return x, label, masks(x)


def nothing_absent(dtype):
    x = rows(dtype, CLASSES, absent=False)
    return x, integers(x)


def with_ignored(dtype):
    x, label = with_labels(dtype)
    return x, np.where(generator().random(label.shape) < 0.3, -7, label).astype(np.int32)


def shares(dtype):
    return (with_shares(dtype)[1],)


def smoothed_labels(y):
    return (1 - SMOOTHING) * y + SMOOTHING / CLASSES


def weighted_labels(y):
    return y * WEIGHTS


def with_z_slope(truth, x, label):
    return np.maximum(integer_slope(truth, x, label), z_slope(truth, x, factor=Z))


def with_z_curvature(truth, x, label):
    return np.maximum(integer_curvature(truth, x, label), z_curvature(truth, x, factor=Z))


LOG_2 = float(np.log(2.0))
DENSE_LIMITS = (
    Limit(((0, -inf, 0), (0, 1, 0)), inf, (0.5, -1, 0.5, None, None, None)),
    Limit(((0, -inf, 0), (1, 0, 0)), LOG_2, (-0.5, 0, 0.5, LOG_2, 0, LOG_2)),
    Limit(((inf, 0, 0), (1, 0, 0)), 0, ZEROS + (None,) * 3),
    Limit(((inf, 0, 0), (0, 1, 0)), inf, (1, -1, 0, None, None, None)),
    Limit(((inf, inf, 0), (1, 0, 0)), LOG_2, (-0.5, 0.5, 0, None, None, None)),
    Limit((ABSENT, (1, 0, 0)), inf, ZEROS + (None,) * 3),
    Limit(((0, nan, 0), (1, 0, 0)), nan),
    Limit(((0, 0, 0), (1, nan, 0)), nan),
)
INTEGER_LIMITS = (
    Limit(((0, -inf, 0), 1), inf, (0.5, -1, 0.5)),
    Limit(((0, -inf, 0), 0), LOG_2, (-0.5, 0, 0.5)),
    Limit(((inf, 0, 0), 0), 0, ZEROS),
    Limit(((inf, 0, 0), 1), inf, (1, -1, 0)),
    Limit(((inf, inf, 0), 0), LOG_2, (-0.5, 0.5, 0)),
    Limit((ABSENT, 0), inf, ZEROS),
    Limit(((0, nan, 0), 0), nan, (nan, nan, nan)),
    Limit(((0, 0, 0), 3), nan, (nan, nan, nan)),
    Limit(((0, 0, 0), -1), nan, (nan, nan, nan)),
)
DENSE = partial(Spec, wrt=(0, 1), budget=(4, 4, 8))
INTEGER = partial(Spec, "softmax_cross_entropy_with_integer_labels", budget=(4, 4, 8))

CATEGORICAL = (
    DENSE(
        "softmax_cross_entropy",
        categorical,
        partial(with_shares, absent=False),
        scale=(None, categorical_slope, None),
        limits=DENSE_LIMITS,
        peer="optax.losses.softmax_cross_entropy",
    ),
    DENSE(
        "safe_softmax_cross_entropy",
        categorical,
        with_shares,
        wrt=(0,),
        scale=(None, in_logits(categorical_slope), None),
        limits=tuple(Limit(limit.args, limit.value, limit.slopes and limit.slopes[:CLASSES]) for limit in DENSE_LIMITS),
        peer="optax.losses.safe_softmax_cross_entropy",
    ),
    DENSE(
        "softmax_cross_entropy",
        lambda x, y, where: categorical(*kept(where, x, y)),
        with_shares_and_masks,
        wrt=(0,),
        call=lambda f: lambda x, y, where: f(x, y, where=where),
        scale=(None, in_logits(categorical_slope), None),
        peer="optax.losses.softmax_cross_entropy",
        options="where",
    ),
    DENSE(
        "softmax_cross_entropy",
        lambda x, y: categorical(x, smoothed(y)),
        partial(with_shares, absent=False),
        call=lambda f: partial(f, label_smoothing=SMOOTHING),
        scale=(None, partial(categorical_slope, labels=smoothed_labels), None),
        options="label_smoothing",
    ),
    DENSE(
        "softmax_cross_entropy",
        lambda x, y: categorical(x, weighted(y)),
        partial(with_shares, absent=False),
        call=lambda f: lambda x, y: f(x, y, weights=np.asarray(WEIGHTS, x.dtype)),
        scale=(None, partial(categorical_slope, labels=weighted_labels), None),
        options="weights",
    ),
    INTEGER(
        lambda x, label: -log_probabilities(x)[label],
        with_labels,
        limits=INTEGER_LIMITS,
        peer="optax.losses.softmax_cross_entropy_with_integer_labels",
    ),
    INTEGER(
        lambda x, label, where: categorical(*kept(where, x, one_hot(label))),
        with_labels_and_masks,
        call=lambda f: lambda x, label, where: f(x, label, where=where),
        peer="optax.losses.softmax_cross_entropy_with_integer_labels",
        options="where",
    ),
    INTEGER(
        lambda x, label: categorical(x, one_hot(label)) if label >= 0 else mpf(0),
        with_ignored,
        call=lambda f: partial(f, ignore_index=-7),
        limits=(Limit(((nan, inf, -inf), -7), 0, ZEROS), Limit(((0, 0, 0), -1), nan, (nan, nan, nan))),
        options="ignore_index",
    ),
    INTEGER(
        lambda x, label: categorical(x, smoothed(one_hot(label))),
        nothing_absent,
        call=lambda f: partial(f, label_smoothing=SMOOTHING),
        scale=(None, partial(integer_slope, labels=smoothed_labels), None),
        options="label_smoothing",
    ),
    INTEGER(
        lambda x, label: categorical(x, weighted(one_hot(label))),
        with_labels,
        call=lambda f: lambda x, label: f(x, label, weights=np.asarray(WEIGHTS, x.dtype)),
        options="weights",
    ),
    INTEGER(
        lambda x, label: categorical(x, one_hot(label)) + Z * squared(x),
        with_labels,
        call=lambda f: partial(f, z_loss=Z),
        scale=(None, with_z_slope, with_z_curvature),
        options="z_loss",
    ),
    Spec(
        "z_loss",
        squared,
        row,
        budget=(4, 4, 8),
        scale=(z_value, z_slope, z_curvature),
        limits=(Limit(((0, nan, 0),), nan),),
    ),
    Spec(
        "smooth_labels",
        smoothed,
        shares,
        budget=(2, 1, 0),
        call=lambda f: lambda y: f(y, SMOOTHING),
        peer="optax.losses.smooth_labels",
    ),
)
