"""Floor 1: the cores of the functions of one logit or probability, and their rules.

Every derivative is made of functions of this file, so that the family is closed under differentiation and each order is
as good as the one before. With s = sigmoid, b = bell, t = tanh, q = bose:

    softplus' = s      s' = b           b'(x) = -b(x) t(x / 2)            b'' = b (1 - 6 b)
    log_cosh' = t      t' = sech^2      (sech^2)' = -2 sech^2 t           (sech^2)'' = 2 sech^2 (2 - 3 sech^2)
    log1mexp' = q      q' = -q (1 + q)                                    q'' = -q' (1 + 2 q)
    logit' = slope     slope' = slope slope (2 p - 1)                     slope'' = 2 slope^2 (1 + (2 p - 1)^2 slope)

float32 is computed in double-float, by `_sigmoid_kernels.py` and `_log_kernels.py`; the closed forms serve float64, and
the 16-bit types, which are computed in float32 and rounded once by the caller.
"""

import jax
import jax.numpy as jnp

from stablelogits_jax import _log_kernels, _sigmoid_kernels
from stablelogits_jax._closed import _exp, _exp_parts, _expm1, _log1p, _unflushed
from stablelogits_jax._core import core, define_slopes, wide
from stablelogits_jax._double_float import fast_two_sum, opaque, parts, polynomial, square_in_parts
from stablelogits_jax._series import INV_E, LN_2, economized, log_cosh_series

# The sigmoid family -----------------------------------------------------------------------------------------------


@core(float32=_sigmoid_kernels.sigmoid)
def _sigmoid(x: jax.Array) -> jax.Array:
    """With e = exp(min(x, -x)) in [0, 1]:
    (1) 1 / (1 + exp(-x))        overflows for x < -88
    (2) x >= 0: 1 / (1 + e);  x < 0: e / (1 + e)        neither overflows nor subtracts
    Its own way to write -|x| keeps XLA from writing out one e for a value and its slope: computing it twice is faster.
    In float64 what 1 + e and e = 2^k (1 + y) leave out is made up for.
    """
    if x.dtype != jnp.float64:
        e = jnp.exp(jnp.minimum(x, -x))
        return jnp.where(x >= 0, 1, e) / (1 + e)
    scale, y, rest = _exp_parts(jnp.minimum(x, -x))
    m, lost = fast_two_sum(opaque(1, y.dtype), y)
    lost = lost + rest
    total, more = fast_two_sum(opaque(1, m.dtype), scale * m)
    share = jnp.where(x >= 0, 1, scale * m) / total
    return share + share * (jnp.where(x >= 0, 0, lost / m) - (more + scale * lost) / total)


@core(float32=_sigmoid_kernels.bell)
def _bell(x: jax.Array) -> jax.Array:
    """sigmoid(x) sigmoid(-x) = e / (1 + e)^2 with e = exp(-|x|); s (1 - s) would be 0 from x = 17."""
    if x.dtype != jnp.float64:
        e = jnp.exp(-jnp.abs(x))
        return e / ((1 + e) * (1 + e))
    scale, y, rest = _exp_parts(-jnp.abs(x))
    m, lost = fast_two_sum(opaque(1, y.dtype), y)
    lost = lost + rest
    total, more = fast_two_sum(opaque(1, m.dtype), scale * m)
    product = m / (total * total)
    return scale * (product + product * (lost / m - 2 * (more + scale * lost) / total))


@core(float32=_sigmoid_kernels.tanh)
def _tanh(x: jax.Array) -> jax.Array:
    """tanh(x), with a rule that does not form 1 - tanh^2. In float64, where XLA:CPU's is 7 ulp off, m / (m + 2) with
    m = exp(2 |x|) - 1."""
    if x.dtype != jnp.float64:
        return jnp.tanh(x)
    m = _expm1(2 * jnp.minimum(jnp.abs(x), 20))
    return jnp.sign(x) * (m / (m + 2))


@core(float32=_sigmoid_kernels.sech_squared)
def _sech_squared(x: jax.Array) -> jax.Array:
    """(2 e / (1 + e^2))^2 with e = exp(-|x|), squared last: exp(-2 |x|) underflows before its fourfold does."""
    e = _exp(-jnp.abs(x))
    sech = 2 * e / (1 + e * e)
    return sech * sech


@core(float32=_sigmoid_kernels.bell_slope)
def _bell_slope(x: jax.Array) -> jax.Array:
    """-b(x) t(x / 2)"""
    return -_bell.closed(x) * _tanh.closed(x / 2)


@core(float32=_sigmoid_kernels.sech_squared_slope)
def _sech_squared_slope(x: jax.Array) -> jax.Array:
    return -2 * _sech_squared.closed(x) * _tanh.closed(x)


define_slopes(_sigmoid, _bell)
define_slopes(_bell, _bell_slope)
define_slopes(_bell_slope, lambda x: _bell(x) * (1 - 6 * _bell(x)))
define_slopes(_tanh, _sech_squared)
define_slopes(_sech_squared, _sech_squared_slope)
define_slopes(_sech_squared_slope, lambda x: 2 * _sech_squared(x) * (2 - 3 * _sech_squared(x)))


@core(float32=_sigmoid_kernels.softplus)
def _softplus(x: jax.Array) -> jax.Array:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)): two terms of one sign, neither overflows."""
    return jnp.maximum(x, 0) + _log1p.closed(_exp(-jnp.abs(x)))


define_slopes(_softplus, _sigmoid)


def _log_sigmoid(x: jax.Array) -> jax.Array:
    return -_softplus(-x)


LOG_COSH = economized(log_cosh_series(80), 14, 0, 0.8**2)


@core(float32=_sigmoid_kernels.log_cosh)
def _log_cosh(x: jax.Array) -> jax.Array:
    """With a = |x|:
    (1) log((exp(a) + exp(-a)) / 2)        overflows from a = 89
    (2) a - log 2 + log1p(exp(-2 a))       cancels to 0 for small a, where the truth is a^2 / 2
    (3) a^2 / 2 + a^4 (-1 / 12 + ...)        for a < 0.8, the square in two parts
    (4) a^2 / 2        for tiny a: the second part of the square is flushed long before its first
    """
    a = jnp.abs(x)
    small = a < 0.8
    square, rest = square_in_parts(jnp.where(small, a, 0))
    c = polynomial(LOG_COSH, square + rest).rounded()
    series = 0.5 * square + (rest * (0.5 + (2 * square + rest) * c) + square * (square * c))
    head, tail = parts(LN_2, x.dtype)
    series = jnp.where(a < 1e-8, 0.5 * (a * a), series)
    return jnp.where(small, series, ((a - head) - tail) + _log1p.closed(_exp(-2 * a)))


define_slopes(_log_cosh, _tanh)


# The inverse of the sigmoid ---------------------------------------------------------------------------------------


@core(float32=_log_kernels.logit)
def _logit(p: jax.Array) -> jax.Array:
    """With d the smaller of p and 1 - p (exact for p >= 1/2):
    (1) log(p / (1 - p))                   cancels around p = 1/2
    (2) +-log1p(|2 p - 1| / d)             2 p - 1 is exact around 1/2, and the argument is positive
    A p that was rounded to 1 behind a fused product may have 1 - p < 0 in the unrounded one: the max keeps it at 0.
    """
    low = p < 0.5
    d, _, shift = _unflushed(jnp.where(low, p, jnp.maximum(1 - p, 0)))
    y = _log1p.closed(jnp.abs(2 * p - 1) / d) + shift
    return jnp.where((p >= 0) & (p <= 1), jnp.where(low, -y, y), jnp.nan)


@core(float32=_log_kernels.slope)
def _slope(p: jax.Array) -> jax.Array:
    """1 / (p (1 - p))"""
    q, scale, _ = _unflushed(p)
    return jnp.where((p >= 0) & (p <= 1), scale / (jnp.maximum(q, 0) * jnp.maximum(1 - p, 0)), jnp.nan)


@core(float32=_log_kernels.slope_slope)
def _slope_slope(p: jax.Array) -> jax.Array:
    return _slope.closed(p) * (_slope.closed(p) * (2 * p - 1))


define_slopes(_logit, _slope)
define_slopes(_slope, _slope_slope)
define_slopes(_slope_slope, lambda p: 2 * _slope(p) ** 2 * (1 + (2 * wide(p) - 1) ** 2 * _slope(p)))


# The exp(x) - 1 family --------------------------------------------------------------------------------------------


@core(float32=_log_kernels.bose)
def _bose(x: jax.Array) -> jax.Array:
    """1 / (exp(x) - 1) for x >= 0, NaN below. Its rule is a product without cancellation: q' = -q (1 + q)."""
    m, scale, _ = _expm1_unflushed(x)
    return jnp.where(x < 0, jnp.nan, scale / m)


def _expm1_unflushed(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """exp(|x|) - 1, which is x where that is subnormal, times 2^k, 2^k and k log 2."""
    y, scale, shift = _unflushed(x)
    return jnp.where(scale == 1, _expm1(jnp.abs(x)), y), scale, shift


@core(float32=_log_kernels.log1mexp)
def _log1mexp(x: jax.Array) -> jax.Array:
    """log(1 - exp(-x)) for x >= 0:
    (1) log(-expm1(-x))        rounds to 0 for large x
    (2) log1p(-exp(-x))        cancels for small x; for x > log 2
    (3) -log1p(1 / (exp(x) - 1))        for the others: the argument is positive and nothing is subtracted
    """
    m, _, shift = _expm1_unflushed(x)
    large = x > float(LN_2)
    y = _log1p.closed(jnp.where(large, -_exp(-jnp.abs(x)), 1 / m))
    return jnp.where(x < 0, jnp.nan, jnp.where(large, y, -(y + shift)))


@core(float32=_log_kernels.logitexp)
def _logitexp(log_p: jax.Array) -> jax.Array:
    """log(p / (1 - p)) = -log(exp(x) - 1) with x = -log_p >= 0 and q = 1 / (exp(x) - 1), p / (1 - p) = q:
    (1) x large (p < 1/5): -x + log1p(q)        cancels near p = 1/2
    (2) x small (p > 2/3): -log(exp(x) - 1)
    (3) between, with d = x - log 2 taken in two parts, exp(x) - 1 = 1 + 2 expm1(d): -log1p(2 expm1(d))
    """
    x = -log_p
    head, tail = parts(LN_2, x.dtype)
    large, small = x > 1.6, x < 0.42
    between = ~(large | small)
    y, scale, shift = _unflushed(x)
    d = (x - head) - tail
    m = _expm1(jnp.where(between, d, jnp.abs(x)), jnp.where(between, ((x - head) - d) - tail, 0))
    m = jnp.where(scale == 1, m, y)
    y = _log1p.closed(jnp.where(between, 2 * m, 1 / m))
    y = jnp.where(between, -y, jnp.where(large, log_p + y, shift - jnp.log(m)))
    return jnp.where(x < 0, jnp.nan, y)


@core(float32=_log_kernels.bose_slope)
def _bose_slope(x: jax.Array) -> jax.Array:
    return -_bose.closed(x) * (1 + _bose.closed(x))


@core(float32=_log_kernels.one_plus_bose)
def _one_plus_bose(x: jax.Array) -> jax.Array:
    """1 / (1 - exp(-x))"""
    return 1 + _bose.closed(x)


define_slopes(_bose, _bose_slope)
define_slopes(_bose_slope, lambda x: -_bose_slope(x) * (1 + 2 * _bose(x)))
define_slopes(_one_plus_bose, _bose_slope)
define_slopes(_log1mexp, _bose)
define_slopes(_logitexp, lambda log_p: _one_plus_bose(-log_p))


# Probabilities ----------------------------------------------------------------------------------------------------


@core(float32=_log_kernels.inverse)
def _inverse(x: jax.Array) -> jax.Array:
    y, scale, _ = _unflushed(x)
    return scale / y


@core
def _log(x: jax.Array) -> jax.Array:
    y, _, shift = _unflushed(x)
    return jnp.log(y) - shift


@core(float32=_log_kernels.log_times_e)
def _log_times_e(p: jax.Array) -> jax.Array:
    """1 + log p; near its zero 1 / e, log1p(e (p - 1 / e)) with 1 / e in two parts."""
    head, tail = parts(INV_E, p.dtype)
    near = (p > 0.25) & (p < 0.5)
    y, _, shift = _unflushed(p)
    return jnp.where(near, _log1p.closed(((p - head) - tail) / head), 1 + (jnp.log(y) - shift))


@core(float32=_log_kernels.entr)
def _entr(p: jax.Array) -> jax.Array:
    y, scale, shift = _unflushed(p)
    return jnp.where(p < 0, -jnp.inf, jnp.where(y == 0, 0, y * (shift - jnp.log(y)) / scale))


define_slopes(_inverse, lambda x: -_inverse(x) * _inverse(x))
define_slopes(_log, _inverse)
define_slopes(_log_times_e, _inverse)
define_slopes(_entr, lambda p: -_log_times_e(p))
