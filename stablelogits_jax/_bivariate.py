"""Floor 1: the cores of the functions of two logits or probabilities, and their rules."""

from collections.abc import Callable
from math import factorial, log
from typing import Any

import jax
import jax.numpy as jnp

from stablelogits_jax import _log_kernels, _sigmoid_kernels
from stablelogits_jax._closed import _log1p, _unflushed
from stablelogits_jax._core import core, define_slopes, wide
from stablelogits_jax._univariate import (
    _bell,
    _bell_slope,
    _bose,
    _bose_slope,
    _inverse,
    _log,
    _log1mexp,
    _one_plus_bose,
    _sigmoid,
    _softplus,
)

# Two logits -------------------------------------------------------------------------------------------------------


@core
def _difference(a: jax.Array, b: jax.Array) -> jax.Array:
    """a - b, and 0 for equal infinities: two logits that are both +inf compare as equal finite ones."""
    return jnp.where(a == b, 0, a - b)


define_slopes(_difference, lambda a, b: 1, lambda a, b: -1)


def _of_difference(f: Any, kernel: Callable, slope: Callable) -> Any:
    """f(a - b), of which the slope is slope(a, b) in a: in float32 nothing of the difference is rounded off."""

    @core(float32=lambda a, b: kernel(_log_kernels.difference(a, b)))
    def g(a: jax.Array, b: jax.Array) -> jax.Array:
        return f.closed(_difference.closed(a, b))

    define_slopes(g, slope, lambda a, b: -slope(a, b))
    return g


_bell_between = _of_difference(_bell, _sigmoid_kernels.bell_at, lambda a, b: _bell_slope(_difference(a, b)))
_share = _of_difference(_sigmoid, _sigmoid_kernels.sigmoid_at, _bell_between)


def _bose_curvature_between(a: jax.Array, b: jax.Array) -> jax.Array:
    d = _difference(a, b)
    return -_bose_slope(d) * (1 + 2 * _bose(d))


_bose_slope_between = _of_difference(_bose_slope, _log_kernels.bose_slope_at, _bose_curvature_between)
_bose_between = _of_difference(_bose, _log_kernels.bose_at, _bose_slope_between)
_one_plus_bose_between = _of_difference(_one_plus_bose, _log_kernels.one_plus_bose_at, _bose_slope_between)


@core(float32=_log_kernels.logaddexp)
def _logaddexp(a: jax.Array, b: jax.Array) -> jax.Array:
    """log(exp(a) + exp(b)) = max(a, b) + log1p(exp(-|a - b|))"""
    return jnp.maximum(a, b) + _log1p.closed(jnp.exp(-jnp.abs(_difference.closed(a, b))))


def _present(a: jax.Array, b: jax.Array, slope: jax.Array) -> jax.Array:
    """The slope, and 0 where neither term is present: both are -inf."""
    return jnp.where(jnp.maximum(a, b) == -jnp.inf, 0, slope)


define_slopes(
    _logaddexp,
    lambda a, b: _present(a, b, _share(a, b)),
    lambda a, b: _present(a, b, _share(b, a)),
)


@core(float32=_log_kernels.logsubexp)
def _logsubexp(a: jax.Array, b: jax.Array) -> jax.Array:
    """log(exp(a) - exp(b)) = a + log1mexp(a - b) for a >= b"""
    return a + _log1mexp.closed(_difference.closed(a, b))


define_slopes(
    _logsubexp,
    lambda a, b: _present(a, b, _one_plus_bose_between(a, b)),
    lambda a, b: _present(a, b, -_bose_between(a, b)),
)


@core(float32=_log_kernels.log_sigmoid_diff)
def _log_sigmoid_diff(a: jax.Array, b: jax.Array) -> jax.Array:
    """sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(-(a - b))): three logarithms of one sign."""
    return _log1mexp.closed(_difference.closed(a, b)) - (_softplus.closed(-a) + _softplus.closed(b))


@core(float32=_log_kernels.log_sigmoid_diff_slope)
def _log_sigmoid_diff_slope(a: jax.Array, b: jax.Array) -> jax.Array:
    """In a; in b it is the same of -b and -a, with the other sign."""
    return _sigmoid.closed(-a) + _bose_between.closed(a, b)


@core(float32=_log_kernels.log_sigmoid_diff_curvature)
def _log_sigmoid_diff_curvature(a: jax.Array, b: jax.Array) -> jax.Array:
    """Minus the second derivative in a"""
    return _bell.closed(a) - _bose_slope_between.closed(a, b)


define_slopes(
    _log_sigmoid_diff,
    lambda a, b: _log_sigmoid_diff_slope(a, b),
    lambda a, b: -_log_sigmoid_diff_slope(-b, -a),
)
define_slopes(
    _log_sigmoid_diff_slope,
    lambda a, b: -_log_sigmoid_diff_curvature(a, b),
    lambda a, b: -_bose_slope_between(a, b),
)
define_slopes(
    _log_sigmoid_diff_curvature,
    lambda a, b: _bell_slope(a) - _bose_curvature_between(a, b),
    _bose_curvature_between,
)


# Probabilities ----------------------------------------------------------------------------------------------------


@core
def _times(a: jax.Array, b: jax.Array) -> jax.Array:
    """a b, where 0 is absence: 0 times infinity is 0, in value and slope."""
    return jnp.where(((a == 0) & ~jnp.isnan(b)) | ((b == 0) & ~jnp.isnan(a)), 0, a * b)


def _absent(x: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.where((x == 0) & jnp.isinf(other), 0, other)


define_slopes(_times, _absent, lambda a, b: _absent(b, a))


@core
def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    """a / b with 0 / 0 = 0"""
    return jnp.where((a == 0) & (b == 0), 0, a / b)


define_slopes(_ratio, lambda a, b: _inverse(b), lambda a, b: -_ratio(_ratio(a, b), b))


def _above_zero(sum: jax.Array, holds: jax.Array) -> jax.Array:
    """A sum that is 0 or more where `holds`, and may be below it by the rounding of a fused term; else NaN."""
    return jnp.where(holds, jnp.maximum(sum, 0), jnp.nan)


@core
def _xlogy(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where((x == 0) & ~jnp.isnan(y), 0, x * _log.closed(y))


@core
def _xlog1py(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where((x == 0) & ~jnp.isnan(y), 0, x * _log1p(y))


define_slopes(_xlogy, lambda x, y: _log(y), _ratio)
define_slopes(_xlog1py, lambda x, y: _log1p(y), lambda x, y: _ratio(x, _above_zero(1 + wide(y), y >= -1)))


@core
def _log_ratio(p: jax.Array, q: jax.Array) -> jax.Array:
    """log(p / q) for p, q >= 0, with hi and lo the larger and the smaller:
    (1) log(p / q)        the rounded quotient loses every digit near p = q
    (2) +-log1p((hi - lo) / lo)        hi - lo is exact there; the quotient overflows when p and q are far apart
    (3) then hi is scaled by the smallest normal float, whose logarithm is taken off again; it is still above 4 lo
    Both are scaled if one is subnormal or hi - lo may be, or the smaller alone if the larger overflows.
    """
    tiny = float(jnp.finfo(p.dtype).tiny)
    (a, a_scale, a_shift), (b, b_scale, b_shift) = _unflushed(p), _unflushed(q)
    scaled = (a_scale > 1) | (b_scale > 1) | (jnp.maximum(p, q) < tiny * 2.0**60)
    a, b = (jnp.where(scaled & (scale == 1), x * 2.0**64, x) for x, scale in ((a, a_scale), (b, b_scale)))
    hi, lo = jnp.maximum(a, b), jnp.minimum(a, b)
    ratio = (hi - lo) / lo
    far, over = jnp.isinf(ratio), jnp.isinf(hi)
    hi = jnp.where(over, jnp.maximum(p, q), hi)
    y = jnp.log1p(jnp.where(far, hi / (lo / tiny) - 1, ratio))
    y = y + jnp.where(far, jnp.where(over, jnp.maximum(a_shift, b_shift), 0) - log(tiny), 0)
    return jnp.where(a == b, 0, jnp.where(a < b, -y, y))


define_slopes(_log_ratio, lambda p, q: _inverse(p), lambda p, q: -_inverse(q))


@core
def _rel_entr(p: jax.Array, q: jax.Array) -> jax.Array:
    inside = jnp.where(p == 0, 0, p * _log_ratio(p, q))
    return jnp.where((p < 0) | (q < 0), jnp.inf, jnp.where(jnp.isnan(p) | jnp.isnan(q), jnp.nan, inside))


define_slopes(_rel_entr, lambda p, q: 1 + _log_ratio(p, q), lambda p, q: -_ratio(p, q))


@core
def _i_divergence(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """q - p - p d with d = log q - log p: a class's part of sum p log(p / q), where p and q have equal sums.

    (1) -p d        of either sign: near p = q the sum cancels to a rounding error
    (2) q - p - p d >= 0        cancels for small d
    (3) p (exp(d) - 1 - d) = p d^2 (1/2! + d/3! + d^2/4! + ...)        for |d| < 1/2, where d^14/16! is below 2^-53
    """
    p, d = jnp.exp(log_p), _difference(log_q, log_p)
    series = jnp.zeros_like(d)
    for k in range(16, 1, -1):
        series = series * d + 1 / factorial(k)
    return jnp.where(jnp.abs(d) < 0.5, p * (d * d * series), (jnp.exp(log_q) - p) - _times(p, d))


define_slopes(
    _i_divergence,
    lambda log_p, log_q: -_times(jnp.exp(log_p), _difference(log_q, log_p)),
    lambda log_p, log_q: jnp.exp(log_q) - jnp.exp(log_p),
)
