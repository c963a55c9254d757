"""Floor 1: the cores of the functions of one or two logits or probabilities, and their rules.

Every derivative is made of functions of this file, so that the family is closed under differentiation and each order is
as good as the one before. With s = sigmoid, b = bell, t = tanh, q = bose:

    softplus' = s      s' = b           b'(x) = -b(x) t(x / 2)            b'' = b (1 - 6 b)
    log_cosh' = t      t' = sech^2      (sech^2)' = -2 sech^2 t           (sech^2)'' = 2 sech^2 (2 - 3 sech^2)
    log1mexp' = q      q' = -q (1 + q)                                    q'' = -q' (1 + 2 q)
    logit' = slope     slope' = slope slope (2 p - 1)                     slope'' = 2 slope^2 (1 + (2 p - 1)^2 slope)

float32 is computed in double-float, by `_kernels.py`; the closed forms here serve float64, and the 16-bit types, which
are computed in float32 and rounded once by the caller.
"""

from collections.abc import Callable
from functools import partial, wraps
from math import factorial, log
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from stablelogits_jax import _kernels
from stablelogits_jax._checks import as_type, compute_type
from stablelogits_jax._double_float import INV_E, LN_2, parts

recomputed = partial(jax.checkpoint, prevent_cse=False)  # the backward pass keeps a slope's arguments, not the slope


def _core(closed: Callable | None = None, *, float32: Callable | None = None) -> Any:
    """A core for every float type, with a rule to follow: the closed form, computed in float32 for 16-bit arguments,
    whose result is float32 then; for float32 ones the kernel in double-float, if there is one."""

    def of(closed: Callable) -> Any:
        @jax.custom_jvp
        @jax.jit
        @wraps(closed)
        def core(*arguments: jax.Array) -> jax.Array:
            if float32 is not None and all(a.dtype == jnp.float32 for a in arguments):
                return float32(*arguments)
            return closed(*(_wide(a) for a in arguments))

        cast(Any, core).closed = closed  # for the closed forms of other cores
        return core

    return of if closed is None else of(closed)


def _wide(x: jax.Array) -> jax.Array:
    return as_type(x, compute_type(x.dtype))


def _define_slopes(f: Any, *slopes: Callable) -> None:
    """The rule f_dot = sum_i slope_i(*primals) x_dot_i.

    Arguments that are not differentiated are left out, not multiplied by a zero: 0 times an infinite slope is NaN.
    """

    @partial(f.defjvp, symbolic_zeros=True)
    def rule(primals: tuple, tangents: tuple) -> tuple:
        y = f(*primals)
        terms = [
            as_type(x_dot, y.dtype) * slope(*primals)
            for slope, x_dot in zip(slopes, tangents, strict=True)
            if not isinstance(x_dot, SymbolicZero)
        ]
        return y, jnp.broadcast_to(sum(terms[1:], terms[0]), y.shape) if terms else jnp.zeros_like(y)


@_core
def _log1p(u: jax.Array) -> jax.Array:
    """log(1 + u) for u > -1. With v = 1 + u rounded, log v + (u - (v - 1)) / v, the second term what v left out:
    XLA:CPU's own is 128 ulp off in (-0.42, -0.30) in float64, and 2.5 elsewhere. It must not know the 1 it takes off.
    """
    one = jax.lax.optimization_barrier(jnp.ones((), u.dtype))
    v = one + u
    y = jnp.where(jnp.isinf(u), u, jnp.log(v) + jnp.where(v == 0, 0, (u - (v - one)) / v))
    return jnp.where(jnp.abs(u) < 2.0**-20, u - u * u * (0.5 - u / 3), y)


def _expm1(x: jax.Array) -> jax.Array:
    """exp(x) - 1 for x >= 0, or |x| < 1. In float64, where XLA:CPU's is 3 ulp off, (u - 1) x / log u with u = exp(x)
    rounded: what the rounding changes in u - 1 it changes in log u."""
    if x.dtype != jnp.float64:
        return jnp.expm1(x)
    one = jax.lax.optimization_barrier(jnp.ones((), x.dtype))
    u = jnp.exp(x)
    safe = jnp.where((u == 1) | jnp.isinf(u), 2, u)  # where another form is taken
    y = jnp.where(jnp.isinf(u), u, (safe - one) * (x / jnp.log(safe)))
    return jnp.where(jnp.abs(x) < 2.0**-20, x + x * x * (0.5 + x / 6), y)


@_core
def _complement(log_p: jax.Array) -> jax.Array:
    """1 - p for a probability known by its log; JAX's own rule for expm1 adds 1 to it, which loses p again."""
    return -jnp.expm1(log_p)


_define_slopes(_log1p, lambda u: 1 / (1 + _wide(u)))
_define_slopes(_complement, lambda log_p: -jnp.exp(_wide(log_p)))


# Masks ------------------------------------------------------------------------------------------------------------


@jax.custom_jvp
def _masked(x: jax.Array, keep: jax.Array, fill: jax.Array | float) -> jax.Array:
    """x where it is kept, else a constant. The backward pass holds the mask alone, no zeros beside it."""
    return jnp.where(keep, x, fill)


@_masked.defjvp
def _masked_jvp(primals: tuple, tangents: tuple) -> tuple:
    tangent = recomputed(lambda keep, x_dot: jnp.where(keep, x_dot, 0))
    return _masked(*primals), tangent(primals[1], tangents[0])


# The sigmoid family -----------------------------------------------------------------------------------------------


@_core(float32=_kernels.sigmoid)
def _sigmoid(x: jax.Array) -> jax.Array:
    """With e = exp(min(x, -x)) in [0, 1]:
    (1) 1 / (1 + exp(-x))        overflows for x < -88
    (2) x >= 0: 1 / (1 + e);  x < 0: e / (1 + e)        neither overflows nor subtracts
    Its own way to write -|x| keeps XLA from writing out one e for a value and its slope: computing it twice is faster.
    """
    e = jnp.exp(jnp.minimum(x, -x))
    return jnp.where(x >= 0, 1, e) / (1 + e)


@_core(float32=_kernels.bell)
def _bell(x: jax.Array) -> jax.Array:
    """sigmoid(x) sigmoid(-x) = e / (1 + e)^2 with e = exp(-|x|); s (1 - s) would be 0 from x = 17."""
    e = jnp.exp(-jnp.abs(x))
    r = 1 / (1 + e)
    return e * r * r


@_core(float32=_kernels.tanh)
def _tanh(x: jax.Array) -> jax.Array:
    """tanh(x), with a rule that does not form 1 - tanh^2."""
    return jnp.tanh(x)


@_core(float32=_kernels.sech_squared)
def _sech_squared(x: jax.Array) -> jax.Array:
    """(2 e / (1 + e^2))^2 with e = exp(-|x|), squared last: exp(-2 |x|) underflows before its fourfold does."""
    e = jnp.exp(-jnp.abs(x))
    sech = 2 * e / (1 + e * e)
    return sech * sech


@_core(float32=_kernels.bell_slope)
def _bell_slope(x: jax.Array) -> jax.Array:
    """-b(x) t(x / 2)"""
    return -_bell.closed(x) * jnp.tanh(x / 2)


@_core(float32=_kernels.sech_squared_slope)
def _sech_squared_slope(x: jax.Array) -> jax.Array:
    return -2 * _sech_squared.closed(x) * jnp.tanh(x)


_define_slopes(_sigmoid, _bell)
_define_slopes(_bell, _bell_slope)
_define_slopes(_bell_slope, lambda x: _bell(x) * (1 - 6 * _bell(x)))
_define_slopes(_tanh, _sech_squared)
_define_slopes(_sech_squared, _sech_squared_slope)
_define_slopes(_sech_squared_slope, lambda x: 2 * _sech_squared(x) * (2 - 3 * _sech_squared(x)))


@_core(float32=_kernels.softplus)
def _softplus(x: jax.Array) -> jax.Array:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)): two terms of one sign, neither overflows."""
    return jnp.maximum(x, 0) + _log1p.closed(jnp.exp(-jnp.abs(x)))


_define_slopes(_softplus, _sigmoid)


def _log_sigmoid(x: jax.Array) -> jax.Array:
    return -_softplus(-x)


@_core(float32=_kernels.log_cosh)
def _log_cosh(x: jax.Array) -> jax.Array:
    """With a = |x|:
    (1) log((exp(a) + exp(-a)) / 2)        overflows from a = 89
    (2) a - log 2 + log1p(exp(-2 a))       cancels to 0 for small a, where the truth is a^2 / 2
    (3) log1p(cosh a - 1) by the series a^2 / 2! + a^4 / 4! + ..., whose terms are positive        for a < 2
    """
    a = jnp.abs(x)
    small = a < 2
    square = jnp.where(small, a * a, 0)
    series = jnp.zeros_like(a)
    for k in range(28, 2, -2):  # 4^15 / 30! is below 2^-53 of the sum
        series = series * square + 1 / factorial(k)
    u = jnp.where(small, 0.5 * square + square * square * series, jnp.exp(-2 * a))
    return jnp.where(small, 0, a - float(LN_2)) + _log1p.closed(u)


_define_slopes(_log_cosh, _tanh)


# The inverse of the sigmoid ---------------------------------------------------------------------------------------


@_core(float32=_kernels.logit)
def _logit(p: jax.Array) -> jax.Array:
    """With d the smaller of p and 1 - p (exact for p >= 1/2):
    (1) log(p / (1 - p))                   cancels around p = 1/2
    (2) +-log1p(|2 p - 1| / d)             2 p - 1 is exact around 1/2, and the argument is positive
    A p that was rounded to 1 behind a fused product may have 1 - p < 0 in the unrounded one: the max keeps it at 0.
    """
    low = p < 0.5
    d = jnp.where(low, p, jnp.maximum(1 - p, 0))
    y = _log1p.closed(jnp.abs(2 * p - 1) / d)
    return jnp.where((p >= 0) & (p <= 1), jnp.where(low, -y, y), jnp.nan)


@_core(float32=_kernels.slope)
def _slope(p: jax.Array) -> jax.Array:
    """1 / (p (1 - p))"""
    return jnp.where((p >= 0) & (p <= 1), 1 / (jnp.maximum(p, 0) * jnp.maximum(1 - p, 0)), jnp.nan)


@_core(float32=_kernels.slope_slope)
def _slope_slope(p: jax.Array) -> jax.Array:
    return _slope.closed(p) * (_slope.closed(p) * (2 * p - 1))


_define_slopes(_logit, _slope)
_define_slopes(_slope, _slope_slope)
_define_slopes(_slope_slope, lambda p: 2 * _slope(p) ** 2 * (1 + (2 * _wide(p) - 1) ** 2 * _slope(p)))


# The exp(x) - 1 family --------------------------------------------------------------------------------------------


@_core(float32=_kernels.bose)
def _bose(x: jax.Array) -> jax.Array:
    """1 / (exp(x) - 1) for x >= 0, NaN below. Its rule adds two positive terms: q' = -q^2 - q."""
    return jnp.where(x < 0, jnp.nan, 1 / _expm1(jnp.abs(x)))


@_core(float32=_kernels.log1mexp)
def _log1mexp(x: jax.Array) -> jax.Array:
    """log(1 - exp(-x)) for x >= 0:
    (1) log(-expm1(-x))        rounds to 0 for large x
    (2) log1p(-exp(-x))        cancels for small x
    (3) -log1p(1 / (exp(x) - 1))        one form for all x: the argument is positive and nothing is subtracted
    """
    return -_log1p.closed(_bose.closed(x))


@_core(float32=_kernels.logitexp)
def _logitexp(log_p: jax.Array) -> jax.Array:
    """log(p / (1 - p)) = -log(exp(x) - 1) with x = -log_p >= 0 and q = 1 / (exp(x) - 1), p / (1 - p) = q:
    (1) x large (p < 1/5): -x + log1p(q)        cancels near p = 1/2
    (2) x small (p > 7/10): log(q) = log1p(q - 1)
    (3) between, with d = x - log 2 taken in two parts, exp(x) - 1 = 1 + 2 expm1(d): -log1p(2 expm1(d))
    """
    x = -log_p
    head, tail = parts(LN_2, x.dtype)
    large, small = x > 1.6, x < 0.35
    between = ~(large | small)
    m = _expm1(jnp.where(between, (x - head) - tail, jnp.abs(x)))
    u = jnp.where(between, 2 * m, jnp.where(large, 1 / m, 1 / m - 1))
    y = _log1p.closed(u)
    y = jnp.where(between, -y, jnp.where(large, log_p + y, y))
    return jnp.where(x < 0, jnp.nan, y)


@_core(float32=_kernels.bose_slope)
def _bose_slope(x: jax.Array) -> jax.Array:
    return -_bose.closed(x) * (1 + _bose.closed(x))


@_core(float32=_kernels.one_plus_bose)
def _one_plus_bose(x: jax.Array) -> jax.Array:
    """1 / (1 - exp(-x))"""
    return 1 + _bose.closed(x)


_define_slopes(_bose, _bose_slope)
_define_slopes(_bose_slope, lambda x: -_bose_slope(x) * (1 + 2 * _bose(x)))
_define_slopes(_one_plus_bose, _bose_slope)
_define_slopes(_log1mexp, _bose)
_define_slopes(_logitexp, lambda log_p: _one_plus_bose(-log_p))


# Two logits -------------------------------------------------------------------------------------------------------


@_core
def _difference(a: jax.Array, b: jax.Array) -> jax.Array:
    """a - b, and 0 for equal infinities: two logits that are both +inf compare as equal finite ones."""
    return jnp.where(a == b, 0, a - b)


_define_slopes(_difference, lambda a, b: 1, lambda a, b: -1)


@_core(float32=_kernels.logaddexp)
def _logaddexp(a: jax.Array, b: jax.Array) -> jax.Array:
    """log(exp(a) + exp(b)) = max(a, b) + log1p(exp(-|a - b|))"""
    return jnp.maximum(a, b) + _log1p.closed(jnp.exp(-jnp.abs(_difference.closed(a, b))))


def _present(a: jax.Array, b: jax.Array, slope: jax.Array) -> jax.Array:
    """The slope, and 0 where neither term is present: both are -inf."""
    return jnp.where(jnp.maximum(a, b) == -jnp.inf, 0, slope)


_define_slopes(
    _logaddexp,
    lambda a, b: _present(a, b, _sigmoid(_difference(a, b))),
    lambda a, b: _present(a, b, _sigmoid(_difference(b, a))),
)


@_core(float32=_kernels.logsubexp)
def _logsubexp(a: jax.Array, b: jax.Array) -> jax.Array:
    """log(exp(a) - exp(b)) = a + log1mexp(a - b) for a >= b"""
    return a + _log1mexp.closed(_difference.closed(a, b))


_define_slopes(
    _logsubexp,
    lambda a, b: _present(a, b, 1 + _bose(_difference(a, b))),
    lambda a, b: _present(a, b, -_bose(_difference(a, b))),
)


def _log_sigmoid_diff(a: jax.Array, b: jax.Array) -> jax.Array:
    """sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(-(a - b))): three logarithms of one sign."""
    a, b = _wide(a), _wide(b)
    return _log_sigmoid(a) + _log_sigmoid(-b) + _log1mexp(_difference(a, b))


# Probabilities ----------------------------------------------------------------------------------------------------


@_core
def _times(a: jax.Array, b: jax.Array) -> jax.Array:
    """a b, where 0 is absence: 0 times infinity is 0, in value and slope."""
    return jnp.where(((a == 0) & ~jnp.isnan(b)) | ((b == 0) & ~jnp.isnan(a)), 0, a * b)


def _absent(x: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.where((x == 0) & jnp.isinf(other), 0, other)


_define_slopes(_times, _absent, lambda a, b: _absent(b, a))


@_core
def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    """a / b with 0 / 0 = 0"""
    return jnp.where((a == 0) & (b == 0), 0, a / b)


_define_slopes(_ratio, lambda a, b: 1 / _wide(b), lambda a, b: -_ratio(_ratio(a, b), b))


def _above_zero(sum: jax.Array, holds: jax.Array) -> jax.Array:
    """A sum that is 0 or more where `holds`, and may be below it by the rounding of a fused term; else NaN."""
    return jnp.where(holds, jnp.maximum(sum, 0), jnp.nan)


@_core
def _xlogy(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where((x == 0) & ~jnp.isnan(y), 0, x * jnp.log(y))


@_core
def _xlog1py(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where((x == 0) & ~jnp.isnan(y), 0, x * _log1p(y))


_define_slopes(_xlogy, lambda x, y: jnp.log(_wide(y)), _ratio)
_define_slopes(_xlog1py, lambda x, y: _log1p(y), lambda x, y: _ratio(x, _above_zero(1 + _wide(y), y >= -1)))


@_core
def _log_ratio(p: jax.Array, q: jax.Array) -> jax.Array:
    """log(p / q) for p, q >= 0, with hi and lo the larger and the smaller:
    (1) log(p / q)        the rounded quotient loses every digit near p = q
    (2) +-log1p((hi - lo) / lo)        hi - lo is exact there; the quotient overflows when p and q are far apart
    (3) then hi is scaled by the smallest normal float, whose logarithm is taken off again; it is still above 4 lo
    """
    hi, lo = jnp.maximum(p, q), jnp.minimum(p, q)
    tiny = float(jnp.finfo(hi.dtype).tiny)
    ratio = (hi - lo) / lo
    far = jnp.isinf(ratio)
    y = jnp.log1p(jnp.where(far, hi / (lo / tiny) - 1, ratio)) + jnp.where(far, jnp.asarray(-log(tiny), hi.dtype), 0)
    return jnp.where(p == q, 0, jnp.where(p < q, -y, y))


_define_slopes(_log_ratio, lambda p, q: 1 / _wide(p), lambda p, q: -1 / _wide(q))


@_core(float32=_kernels.log_times_e)
def _log_times_e(p: jax.Array) -> jax.Array:
    """1 + log p; near its zero 1 / e, log1p(e (p - 1 / e)) with 1 / e in two parts."""
    head, tail = parts(INV_E, p.dtype)
    near = (p > 0.25) & (p < 0.5)
    return jnp.where(near, _log1p(((p - head) - tail) / head), 1 + jnp.log(p))


@_core(float32=_kernels.entr)
def _entr(p: jax.Array) -> jax.Array:
    return jnp.where(p < 0, -jnp.inf, jnp.where(p == 0, 0, -_xlogy(p, p)))


@_core
def _rel_entr(p: jax.Array, q: jax.Array) -> jax.Array:
    inside = jnp.where(p == 0, 0, p * _log_ratio(p, q))
    return jnp.where((p < 0) | (q < 0), jnp.inf, jnp.where(jnp.isnan(p) | jnp.isnan(q), jnp.nan, inside))


_define_slopes(_log_times_e, lambda p: 1 / _wide(p))
_define_slopes(_entr, lambda p: -_log_times_e(p))
_define_slopes(_rel_entr, lambda p, q: 1 + _log_ratio(p, q), lambda p, q: -_ratio(p, q))


@_core
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


_define_slopes(
    _i_divergence,
    lambda log_p, log_q: -_times(jnp.exp(log_p), _difference(log_q, log_p)),
    lambda log_p, log_q: jnp.exp(log_q) - jnp.exp(log_p),
)
