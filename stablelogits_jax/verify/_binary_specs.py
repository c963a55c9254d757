"""The losses on one logit. Options have values that every float type holds exactly."""

from functools import partial
from math import inf, nan

import jax.numpy as jnp
import numpy as np
from mpmath import mpf

from stablelogits_jax.verify._elementwise_specs import sigmoid
from stablelogits_jax.verify._grids import generator, line, unflushed
from stablelogits_jax.verify._oracle import exp, log, power
from stablelogits_jax.verify._scales import binary_slope, focal_curvature, focal_slope, focal_value
from stablelogits_jax.verify._spec import Limit, Spec

SMOOTHING, POSITIVE, ALPHA, GAMMA = 0.125, 2.5, 0.25, 1.5


def binary(x, y, weight=1.0):
    return weight * y * log(1 + exp(-x)) + (1 - y) * log(1 + exp(x))


def focal(x, y, gamma=2.0):
    miss = (1 - y) * sigmoid(x) + y * sigmoid(-x)
    return power(miss, gamma) * binary(x, y)


def logits_and_shares(dtype):
    """Logits with labels from 0 to 1, half of them certain, none where a share of a tail would be flushed."""
    tiny = float(jnp.finfo(dtype).tiny)
    (x,) = line(dtype, keep=lambda x: unflushed(dtype, np.abs(x)) & (np.abs(x) > 16 * tiny))  # x / 2 is flushed too
    rng = generator()
    soft = rng.choice([rng.random(x.size), 1e-4 + rng.random(x.size) * 1e-3, 1 - rng.random(x.size) * 1e-2])
    return x, np.where(rng.random(x.size) < 0.5, rng.integers(2, size=x.size), soft).astype(dtype)


def masked_shares(dtype):
    x, y = logits_and_shares(dtype)
    return x, y, generator().random(x.shape) < 0.7


def kept(scale):
    """The scale, and 0 where the example is masked."""
    return lambda truth, x, y, where: scale(truth, x, y) * where.reshape(-1, *(1,) * (truth.ndim - 1))


BINARY_LIMITS = (
    Limit((inf, 1), 0, (0, None)),
    Limit((-inf, 0), 0, (0, None)),
    Limit((inf, 0), inf, (1, None)),
    Limit((-inf, 1), inf, (-1, None)),
    Limit((nan, 1), nan, (nan, None)),
)
SOFT_LIMITS = (Limit((inf, 0.25), inf, (0.75, None)), Limit((-inf, 0.25), inf, (-0.25, None)))

BINARY = partial(Spec, "sigmoid_binary_cross_entropy", wrt=(0, 1), budget=(4, 4, 6))

BINARIES = (
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
        budget=(8, 8, 8),  # 1 - y of the smoothed label
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
        scale=(focal_value, focal_slope, focal_curvature),
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
            partial(focal_value, gamma=GAMMA),
            lambda *args: focal_slope(*args, gamma=GAMMA)[:, :, :1],
            lambda *args: focal_curvature(*args, gamma=GAMMA)[:, :, :1, :1],
        ),
        peer="optax.losses.sigmoid_focal_loss",
        options="alpha, gamma",
    ),
    Spec(
        "sigmoid_focal_loss",
        lambda x, y, where: focal(x, y) if where else mpf(0),
        masked_shares,
        budget=(6, 8, 12),
        wrt=(0, 1),
        call=lambda f: lambda x, y, where: f(x, y, where=where),
        scale=(kept(focal_value), kept(focal_slope), kept(focal_curvature)),
        options="where",
    ),
)
