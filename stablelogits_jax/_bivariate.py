"""Floor 1: the cores of the functions of two logits or probabilities, and their rules."""

from collections.abc import Callable
from math import factorial, log
from typing import Any

import jax
import jax.numpy as jnp

from stablelogits_jax import _log_kernels, _sigmoid_kernels
from stablelogits_jax._closed import _exp, _log1p, _unflushed
from stablelogits_jax._core import core, define_slopes, wide
from stablelogits_jax._double_float import polynomial
from stablelogits_jax._series import economized, log_cosh_series
from stablelogits_jax._univariate import (
    _bell,
    _bell_slope,
    _bose,
    _bose_slope,
    _inverse,
    _log,
    _log1mexp,
    _one_plus_bose,
    _sech_squared,
    _sech_squared_slope,
    _sigmoid,
    _softplus,
    _tanh,
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


@core
def _cap_gain(u: jax.Array) -> jax.Array:
    """tanh u - u sech^2 u, which cancels for small u: (sinh(2u) - 2u) / 2 sech^2 u there, whose terms have one sign."""
    small = jnp.abs(u) < 1
    square = jnp.where(small, 2 * u, 0) ** 2
    series = jnp.zeros_like(u)
    for n in range(23, 1, -2):
        series = series * square + 1 / factorial(n)
    v = jnp.clip(u, -60, 60)  # where sech^2 u is 0, u may be infinite
    sech = _sech_squared(v)
    return jnp.where(small, u * square * series * sech, _tanh(v) - v * sech)


TANH_NEAR = 0.55
TANH_SERIES = [(2 * n + 4) * c for n, c in enumerate(log_cosh_series(40))]  # of (tanh(a) - a) / a^3, in a^2
TANH = [economized(TANH_SERIES, degree, 0, TANH_NEAR**2) for degree in (4, 10)]


@core
def _in_caps(x: jax.Array, cap: jax.Array) -> jax.Array:
    """x / c. XLA divides by a number of the row with its inverse, and that of a large one is subnormal."""
    part = jax.lax.optimization_barrier(jnp.where(cap > 1, 0.125, jnp.ones_like(cap)))
    return (x * part) / (cap * part)


@core
def _soft_cap(x: jax.Array, cap: jax.Array) -> jax.Array:
    """c tanh(x / c), which is x for a small quotient, that may be flushed; and -inf for -inf, which is absent. With
    a = |x / c| and e = exp(-2 a), the square of what the slope is made of too, tanh a is

    (1) (1 - e) / (1 + e)        cancels for small a
    (2) a + a^3 (-1 / 3 + ...)        for a < 0.55
    """
    u = _in_caps.closed(x, cap)
    a = jnp.abs(u)
    e = _exp(-a)
    e = e * jax.lax.optimization_barrier(e)
    near = jnp.minimum(a, TANH_NEAR)
    square = near * near
    c = polynomial(TANH[u.dtype.itemsize == 8], square).rounded()
    y = jnp.where(a < TANH_NEAR, near + near * (square * c), (1 - e) / (1 + e))
    small = ~(a >= jnp.finfo(u.dtype).eps) | (x == -jnp.inf)  # or not a number, of infinities
    return jnp.where(small, x, cap * jnp.where(u < 0, -y, y))


@core
def _cap_slope(x: jax.Array, cap: jax.Array) -> jax.Array:
    """sech^2(x / c), which multiplies a slope of rounded logits: closed forms are good enough for both. It shares the
    exponential with the value."""
    e = _exp(-jnp.abs(_in_caps.closed(x, cap)))
    sech = 2 * e / (1 + e * jax.lax.optimization_barrier(e))
    return jnp.where(jnp.isinf(x), 0, sech * sech)


def _capped(x: jax.Array, cap: jax.Array) -> jax.Array:
    return _in_caps(jnp.where(jnp.isinf(x), 0, wide(x)), cap)


def _cap_bend(x: jax.Array, cap: jax.Array) -> jax.Array:
    return _ratio(_sech_squared_slope(_capped(x, cap)), cap)


define_slopes(_in_caps, lambda x, cap: 1 / cap, lambda x, cap: -_ratio(_in_caps(x, cap), cap))
define_slopes(_cap_slope, _cap_bend, lambda x, cap: -_times(_capped(x, cap), _cap_bend(x, cap)))
define_slopes(_cap_gain, lambda u: 2 * _times(u, _sech_squared(u) * _tanh(u)))
define_slopes(
    _soft_cap,
    _cap_slope,
    lambda x, cap: jnp.where(jnp.isinf(x), jnp.maximum(jnp.sign(wide(x)), 0), _cap_gain(_capped(x, cap))),
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
