"""The losses, and what belongs to their labels. Options have values that every float type holds exactly."""

from functools import partial

import numpy as np
from mpmath import inf, mpf, nan

from stablelogits_jax.verify._elementwise_specs import sigmoid
from stablelogits_jax.verify._grids import distributions, generator, integers, line, masks, rows
from stablelogits_jax.verify._oracle import exp, log, power
from stablelogits_jax.verify._row_specs import (
    ABSENT,
    CLASSES,
    ZEROS,
    kept,
    log_probabilities,
    log_sum_exp,
    others,
    present,
    row,
    softmax,
    softmax_slope,
    with_labels,
)
from stablelogits_jax.verify._spec import Limit, Spec

SMOOTHING, POSITIVE, ALPHA, GAMMA, Z = 0.125, 2.5, 0.25, 1.5, 0.25
WEIGHTS = (0.5, 1.0, 2.0)


# Binary: formulas, grids and scales ---------------------------------------------------------------------------------


def binary(x, y, weight=1.0):
    return weight * y * log(1 + exp(-x)) + (1 - y) * log(1 + exp(x))


def focal(x, y, gamma=2.0):
    miss = (1 - y) * sigmoid(x) + y * sigmoid(-x)
    return power(miss, gamma) * binary(x, y)


def logits_and_shares(dtype):
    """Logits with labels from 0 to 1, half of them certain."""
    (x,) = line(dtype)
    rng = generator()
    soft = rng.choice([rng.random(x.size), rng.random(x.size) * 1e-3, 1 - rng.random(x.size) * 1e-2])
    return x, np.where(rng.random(x.size) < 0.5, rng.integers(2, size=x.size), soft).astype(dtype)


def masked_shares(dtype):
    x, y = logits_and_shares(dtype)
    return x, y, generator().random(x.shape) < 0.7


def sigmoids(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e), np.where(x >= 0, e, 1) / (1 + e)


def binary_slope(truth, x, y, where=True, weight=1.0, smoothing=0.0):
    """For (1 - y) sigmoid(x) - w y sigmoid(-x) in the logit: the larger term. In the label the larger softplus if w is not 1."""
    p, q = sigmoids(x)
    y = (1 - smoothing) * y + smoothing / 2
    in_y = np.zeros_like(x) if weight == 1 else np.maximum(weight * np.logaddexp(0, -x), np.logaddexp(0, x))
    return (np.stack([np.maximum((1 - y) * p, weight * y * q), in_y], axis=-1) * np.expand_dims(where, -1))[:, None, :]


def focal_terms(x, y, gamma):
    """(1 - p_y)^gamma, the cross entropy c, c' by its absolute terms, and the size of log(1 - p_y)' and of y's part."""
    p, q = sigmoids(x)
    miss = (1 - y) * p + y * q
    c = y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x)
    return miss**gamma, c, (1 - y) * p + y * q, p * q / miss, np.abs(p - q) / miss


def focal_slope(truth, x, y, gamma=2.0, factor=1.0):
    """For m (c' + gamma c log(1 - p_y)') in the logit and in the label: the largest term."""
    m, c, c_dot, pull, miss_y = focal_terms(x, y, gamma)
    in_x = m * np.maximum(c_dot, gamma * c * pull)
    in_y = m * np.maximum(np.abs(x), gamma * c * miss_y)
    return factor * np.stack([in_x, in_y], axis=-1)[:, None, :]


def focal_curvature(truth, x, y, gamma=2.0, factor=1.0):
    """The product rule once more, by its largest term."""
    m, c, c_dot, pull, miss_y = focal_terms(x, y, gamma)
    p, q = sigmoids(x)
    g = gamma * pull
    in_x = m * np.max([g * g * c, g * (1 + pull) * c, 2 * g * c_dot, p * q], axis=0)
    mixed = m * np.max([np.ones_like(x), g * np.abs(x), gamma * miss_y * np.maximum(c_dot, (1 + gamma) * pull * c)], axis=0)
    in_y = m * np.max([gamma * miss_y * np.abs(x), gamma**2 * miss_y**2 * c], axis=0)
    return factor * np.stack([np.stack([in_x, mixed], -1), np.stack([mixed, in_y], -1)], -1)[:, None]


# Categorical: formulas, grids and scales ----------------------------------------------------------------------------


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
    return x, y, masks(x)


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


def _slope_in_logits(x, y):
    p = softmax(x)
    return np.maximum(p * np.sum(y[:, None, :] * (1 - np.eye(CLASSES)), axis=-1), y * others(p))


def categorical_slope(truth, x, y, where=True, labels=lambda y: y):
    """For p sum(y) - y in the logits, which is p_i (the other y) - y_i (the other p): the larger term."""
    in_x = _slope_in_logits(np.where(where, x, -np.inf), np.where(where, labels(y), 0))
    return np.concatenate([in_x, np.zeros_like(in_x)], axis=-1)[:, None, :]


def integer_slope(truth, x, label, labels=lambda y: y):
    """The same for labels that smoothing or weights make shares."""
    return _slope_in_logits(x, labels(np.eye(CLASSES)[label.astype(int)]))[:, None, :]


def smoothed_labels(y):
    return (1 - SMOOTHING) * y + SMOOTHING / CLASSES


def weighted_labels(y):
    return y * WEIGHTS


def normalizer(x):
    """The size of max + log(sum exp(x - max))."""
    top = np.max(x, axis=-1)
    return np.maximum(np.abs(top), np.log(np.sum(np.exp(x - top[:, None]), axis=-1)))


def z_value(truth, x):
    """For the square of a log-sum that may cross zero."""
    return 2 * np.sqrt(np.abs(truth)) * normalizer(x)[:, None]


def z_slope(truth, x, *_, factor=1.0):
    """For 2 logsumexp(x) p, the same."""
    return (factor * 2 * normalizer(x)[:, None] * softmax(x))[:, None, :]


def z_curvature(truth, x, *_, factor=1.0):
    """For 2 (p_i p_j + logsumexp(x) dp_i / dx_j), the larger term."""
    p = softmax(x)
    size = np.maximum(p[:, :, None] * p[:, None, :], normalizer(x)[:, None, None] * softmax_slope(x))
    return (factor * 2 * size)[:, None]


def with_z_slope(truth, x, label):
    return np.maximum(integer_slope(truth, x, label), z_slope(truth, x, factor=Z))


HALF = np.log(2.0)
DENSE_LIMITS = (
    Limit(((0, -inf, 0), (0, 1, 0)), inf, (0.5, -1, 0.5, None, None, None)),
    Limit(((0, -inf, 0), (1, 0, 0)), HALF, (-0.5, 0, 0.5, HALF, 0, HALF)),
    Limit(((inf, 0, 0), (1, 0, 0)), 0, ZEROS + (None,) * 3),
    Limit(((inf, 0, 0), (0, 1, 0)), inf, (1, -1, 0, None, None, None)),
    Limit(((inf, inf, 0), (1, 0, 0)), HALF, (-0.5, 0.5, 0, None, None, None)),
    Limit((ABSENT, (1, 0, 0)), inf, ZEROS + (None,) * 3),
    Limit(((0, nan, 0), (1, 0, 0)), nan),
    Limit(((0, 0, 0), (1, nan, 0)), nan),
)
INTEGER_LIMITS = (
    Limit(((0, -inf, 0), 1), inf, (0.5, -1, 0.5)),
    Limit(((0, -inf, 0), 0), HALF, (-0.5, 0, 0.5)),
    Limit(((inf, 0, 0), 0), 0, ZEROS),
    Limit(((inf, 0, 0), 1), inf, (1, -1, 0)),
    Limit(((inf, inf, 0), 0), HALF, (-0.5, 0.5, 0)),
    Limit((ABSENT, 0), inf, ZEROS),
    Limit(((0, nan, 0), 0), nan, (nan, nan, nan)),
    Limit(((0, 0, 0), 3), nan, (nan, nan, nan)),
    Limit(((0, 0, 0), -1), nan, (nan, nan, nan)),
)
BINARY_LIMITS = (
    Limit((inf, 1), 0, (0, None)),
    Limit((-inf, 0), 0, (0, None)),
    Limit((inf, 0), inf, (1, None)),
    Limit((-inf, 1), inf, (-1, None)),
    Limit((nan, 1), nan, (nan, None)),
)
SOFT_LIMITS = (Limit((inf, 0.25), inf, (0.75, None)), Limit((-inf, 0.25), inf, (-0.25, None)))

DENSE = partial(Spec, wrt=(0, 1), budget=(4, 4, 8))
INTEGER = partial(Spec, "softmax_cross_entropy_with_integer_labels", budget=(4, 4, 8))
BINARY = partial(Spec, "sigmoid_binary_cross_entropy", wrt=(0, 1), budget=(4, 4, 6))

LOSSES = (
    BINARY(
        binary,
        logits_and_shares,
        scale=(None, binary_slope, None),
        limits=BINARY_LIMITS + SOFT_LIMITS,
        peer="optax.losses.sigmoid_binary_cross_entropy",
    ),
    BINARY(
        lambda x, y: binary(x, y, POSITIVE),
        logits_and_shares,
        call=lambda f: partial(f, pos_weight=POSITIVE),
        scale=(None, partial(binary_slope, weight=POSITIVE), None),
        limits=(Limit((inf, 1), 0, (0, None)), Limit((-inf, 1), inf, (-POSITIVE, None))),
        options="pos_weight",
    ),
    BINARY(
        lambda x, y: binary(x, (1 - SMOOTHING) * y + SMOOTHING / 2),
        logits_and_shares,
        call=lambda f: partial(f, label_smoothing=SMOOTHING),
        scale=(None, partial(binary_slope, smoothing=SMOOTHING), None),
        limits=(Limit((inf, 1), inf, (SMOOTHING / 2, None)),),
        options="label_smoothing",
    ),
    BINARY(
        lambda x, y, where: binary(x, y) if where else mpf(0),
        masked_shares,
        call=lambda f: lambda x, y, where: f(x, y, where=where),
        scale=(None, binary_slope, None),
        options="where",
    ),
    Spec(
        "sigmoid_focal_loss",
        focal,
        logits_and_shares,
        budget=(6, 8, 12),
        wrt=(0, 1),
        scale=(None, focal_slope, focal_curvature),
        limits=BINARY_LIMITS,
        peer="optax.losses.sigmoid_focal_loss",
    ),
    Spec(
        "sigmoid_focal_loss",
        lambda x, y: (ALPHA * y + (1 - ALPHA) * (1 - y)) * focal(x, y, GAMMA),
        logits_and_shares,
        budget=(6, 8, 12),
        wrt=(0,),
        call=lambda f: partial(f, alpha=ALPHA, gamma=GAMMA),
        scale=(
            None,
            lambda *args: focal_slope(*args, gamma=GAMMA)[:, :, :1],
            lambda *args: focal_curvature(*args, gamma=GAMMA)[:, :, :1, :1],
        ),
        peer="optax.losses.sigmoid_focal_loss",
        options="alpha, gamma",
    ),
    *(
        DENSE(
            name,
            categorical,
            with_shares,
            scale=(None, categorical_slope, None),
            limits=DENSE_LIMITS,
            peer=f"optax.losses.{name}",
        )
        for name in ("softmax_cross_entropy", "safe_softmax_cross_entropy")
    ),
    DENSE(
        "softmax_cross_entropy",
        lambda x, y, where: categorical(*kept(where, x, y)),
        with_shares_and_masks,
        call=lambda f: lambda x, y, where: f(x, y, where=where),
        scale=(None, categorical_slope, None),
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
        with_shares,
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
        scale=(None, with_z_slope, partial(z_curvature, factor=Z)),
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
