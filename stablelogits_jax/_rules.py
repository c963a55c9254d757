"""Floor 1: the cores of the functions of one or two logits or probabilities, and their rules.

Every derivative is made of functions of this file, so that the family is closed under differentiation and each order is
as good as the one before. With s = sigmoid, b = bell, t = tanh, q = bose:

    softplus' = s      s' = b           b'(x) = -b(x) t(x / 2)
    log_cosh' = t      t' = sech^2      (sech^2)' = -2 sech^2 t
    log1mexp' = q      q' = -q (1 + q)
    logit' = slope     slope' = slope slope (2 p - 1)
"""

from collections.abc import Callable
from functools import partial
from math import factorial, log
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from stablelogits_jax._double_float import INV_E, LN_2, two_part

recomputed = partial(jax.checkpoint, prevent_cse=False)  # the backward pass keeps a slope's arguments, not the slope


def _define_slopes(f: Any, *slopes: Callable) -> None:
    """The rule f_dot = sum_i slope_i(*primals) x_dot_i.

    Arguments that are not differentiated are left out, not multiplied by a zero: 0 times an infinite slope is NaN.
    """

    @partial(f.defjvp, symbolic_zeros=True)
    def rule(primals: tuple, tangents: tuple) -> tuple:
        y = f(*primals)
        terms = [
            x_dot * slope(*primals)
            for slope, x_dot in zip(slopes, tangents, strict=True)
            if not isinstance(x_dot, SymbolicZero)
        ]
        return y, jnp.broadcast_to(sum(terms[1:], terms[0]), y.shape) if terms else jnp.zeros_like(y)


@jax.custom_jvp
@jax.jit
def _log1p(u: jax.Array) -> jax.Array:
    """log(1 + u) for u > -1, from log1p of a positive argument: XLA:CPU's is poor in (-0.42, -0.30) in float64.

    log(1 + u) = -log(1 / (1 + u)) = -log1p(-u / (1 + u))
    """
    negative = u < 0
    y = jnp.log1p(jnp.where(negative, -u / (1 + u), u))
    return jnp.where(negative, -y, y)


@jax.custom_jvp
@jax.jit
def _complement(log_p: jax.Array) -> jax.Array:
    """1 - p for a probability known by its log; JAX's own rule for expm1 adds 1 to it, which loses p again."""
    return -jnp.expm1(log_p)


_define_slopes(_log1p, lambda u: 1 / (1 + u))
_define_slopes(_complement, lambda log_p: -jnp.exp(log_p))


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


@jax.custom_jvp
@jax.jit
def _sigmoid(x: jax.Array) -> jax.Array:
    """With e = exp(min(x, -x)) in [0, 1]:
    (1) 1 / (1 + exp(-x))        overflows for x < -88
    (2) x >= 0: 1 / (1 + e);  x < 0: e / (1 + e)        neither overflows nor subtracts
    Its own way to write -|x| keeps XLA from writing out one e for a value and its slope: computing it twice is faster.
    """
    e = jnp.exp(jnp.minimum(x, -x))
    return jnp.where(x >= 0, 1, e) / (1 + e)


@jax.custom_jvp
@jax.jit
def _bell(x: jax.Array) -> jax.Array:
    """sigmoid(x) sigmoid(-x) = e / (1 + e)^2 with e = exp(-|x|); s (1 - s) would be 0 from x = 17."""
    e = jnp.exp(-jnp.abs(x))
    r = 1 / (1 + e)
    return e * r * r


@jax.custom_jvp
@jax.jit
def _tanh(x: jax.Array) -> jax.Array:
    """tanh(x), with a rule that does not form 1 - tanh^2."""
    return jnp.tanh(x)


@jax.custom_jvp
@jax.jit
def _sech_squared(x: jax.Array) -> jax.Array:
    """(2 e / (1 + e^2))^2 with e = exp(-|x|), squared last: exp(-2 |x|) underflows before its fourfold does."""
    e = jnp.exp(-jnp.abs(x))
    sech = 2 * e / (1 + e * e)
    return sech * sech


_define_slopes(_sigmoid, _bell)
_define_slopes(_bell, lambda x: -_bell(x) * _tanh(x / 2))
_define_slopes(_tanh, _sech_squared)
_define_slopes(_sech_squared, lambda x: -2 * _sech_squared(x) * _tanh(x))


@jax.custom_jvp
@jax.jit
def _softplus(x: jax.Array) -> jax.Array:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)): two terms of one sign, neither overflows."""
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


_define_slopes(_softplus, _sigmoid)


def _log_sigmoid(x: jax.Array) -> jax.Array:
    return -_softplus(-x)


@jax.custom_jvp
@jax.jit
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
    for k in range(28, 0, -2):  # 4^15 / 30! is below 2^-53 of the sum
        series = series * square + 1 / factorial(k)
    u = jnp.where(small, square * series, jnp.exp(-2 * a))
    return jnp.where(small, 0, a - float(LN_2)) + jnp.log1p(u)


_define_slopes(_log_cosh, _tanh)


# The inverse of the sigmoid ---------------------------------------------------------------------------------------


@jax.custom_jvp
@jax.jit
def _logit(p: jax.Array) -> jax.Array:
    """With d the smaller of p and 1 - p (exact for p >= 1/2):
    (1) log(p / (1 - p))                   cancels around p = 1/2
    (2) +-log1p(|2 p - 1| / d)             2 p - 1 is exact around 1/2, and the argument is positive
    A p that was rounded to 1 behind a fused product may have 1 - p < 0 in the unrounded one: the max keeps it at 0.
    """
    low = p < 0.5
    d = jnp.where(low, p, jnp.maximum(1 - p, 0))
    y = jnp.log1p(jnp.abs(2 * p - 1) / d)
    return jnp.where((p >= 0) & (p <= 1), jnp.where(low, -y, y), jnp.nan)


@jax.custom_jvp
@jax.jit
def _slope(p: jax.Array) -> jax.Array:
    """1 / (p (1 - p))"""
    return jnp.where((p >= 0) & (p <= 1), 1 / (jnp.maximum(p, 0) * jnp.maximum(1 - p, 0)), jnp.nan)


_define_slopes(_logit, _slope)
_define_slopes(_slope, lambda p: _slope(p) * (_slope(p) * (2 * p - 1)))


# The exp(x) - 1 family --------------------------------------------------------------------------------------------


@jax.custom_jvp
@jax.jit
def _bose(x: jax.Array) -> jax.Array:
    """1 / (exp(x) - 1) for x >= 0, NaN below. Its rule adds two positive terms: q' = -q^2 - q."""
    return jnp.where(x < 0, jnp.nan, 1 / jnp.expm1(jnp.abs(x)))


@jax.custom_jvp
@jax.jit
def _log1mexp(x: jax.Array) -> jax.Array:
    """log(1 - exp(-x)) for x >= 0:
    (1) log(-expm1(-x))        rounds to 0 for large x
    (2) log1p(-exp(-x))        cancels for small x
    (3) -log1p(1 / (exp(x) - 1))        one form for all x: the argument is positive and nothing is subtracted
    """
    return -jnp.log1p(_bose(x))


@jax.custom_jvp
@jax.jit
def _logitexp(log_p: jax.Array) -> jax.Array:
    """log(p / (1 - p)) = -log(exp(x) - 1) with x = -log_p >= 0 and q = 1 / (exp(x) - 1), p / (1 - p) = q:
    (1) x large (p < 1/5): -x + log1p(q)        cancels near p = 1/2
    (2) x small (p > 7/10): log(q) = log1p(q - 1)
    (3) between, with d = x - log 2 taken in two parts, exp(x) - 1 = 1 + 2 expm1(d): -log1p(2 expm1(d))
    """
    x = -log_p
    head, tail = two_part(LN_2, x.dtype)
    large, small = x > 1.6, x < 0.35
    between = ~(large | small)
    m = jnp.expm1(jnp.where(between, (x - head) - tail, jnp.abs(x)))
    u = jnp.where(between, 2 * m, jnp.where(large, 1 / m, 1 / m - 1))
    y = _log1p(u)
    y = jnp.where(between, -y, jnp.where(large, log_p + y, y))
    return jnp.where(x < 0, jnp.nan, y)


_define_slopes(_bose, lambda x: -_bose(x) * (1 + _bose(x)))
_define_slopes(_log1mexp, _bose)
_define_slopes(_logitexp, lambda log_p: 1 + _bose(-log_p))


# Two logits -------------------------------------------------------------------------------------------------------


@jax.custom_jvp
@jax.jit
def _difference(a: jax.Array, b: jax.Array) -> jax.Array:
    """a - b, and 0 for equal infinities: two logits that are both +inf compare as equal finite ones."""
    return jnp.where(a == b, 0, a - b)


_define_slopes(_difference, lambda a, b: 1, lambda a, b: -1)


@jax.custom_jvp
@jax.jit
def _logaddexp(a: jax.Array, b: jax.Array) -> jax.Array:
    """log(exp(a) + exp(b)) = max(a, b) + log1p(exp(-|a - b|))"""
    return jnp.maximum(a, b) + jnp.log1p(jnp.exp(-jnp.abs(_difference(a, b))))


def _present(a: jax.Array, b: jax.Array, slope: jax.Array) -> jax.Array:
    """The slope, and 0 where neither term is present: both are -inf."""
    return jnp.where(jnp.maximum(a, b) == -jnp.inf, 0, slope)


_define_slopes(
    _logaddexp,
    lambda a, b: _present(a, b, _sigmoid(_difference(a, b))),
    lambda a, b: _present(a, b, _sigmoid(_difference(b, a))),
)


@jax.custom_jvp
@jax.jit
def _logsubexp(a: jax.Array, b: jax.Array) -> jax.Array:
    """log(exp(a) - exp(b)) = a + log1mexp(a - b) for a >= b"""
    return a + _log1mexp(_difference(a, b))


_define_slopes(
    _logsubexp,
    lambda a, b: _present(a, b, 1 + _bose(_difference(a, b))),
    lambda a, b: _present(a, b, -_bose(_difference(a, b))),
)


def _log_sigmoid_diff(a: jax.Array, b: jax.Array) -> jax.Array:
    """sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(-(a - b))): three logarithms of one sign."""
    return _log_sigmoid(a) + _log_sigmoid(-b) + _log1mexp(_difference(a, b))


# Probabilities ----------------------------------------------------------------------------------------------------


@jax.custom_jvp
@jax.jit
def _times(a: jax.Array, b: jax.Array) -> jax.Array:
    """a b, where 0 is absence: 0 times infinity is 0, in value and slope."""
    return jnp.where(((a == 0) & ~jnp.isnan(b)) | ((b == 0) & ~jnp.isnan(a)), 0, a * b)


def _absent(x: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.where((x == 0) & jnp.isinf(other), 0, other)


_define_slopes(_times, _absent, lambda a, b: _absent(b, a))


@jax.custom_jvp
@jax.jit
def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    """a / b with 0 / 0 = 0"""
    return jnp.where((a == 0) & (b == 0), 0, a / b)


_define_slopes(_ratio, lambda a, b: 1 / b, lambda a, b: -_ratio(_ratio(a, b), b))


def _above_zero(sum: jax.Array, holds: jax.Array) -> jax.Array:
    """A sum that is 0 or more where `holds`, and may be below it by the rounding of a fused term; else NaN."""
    return jnp.where(holds, jnp.maximum(sum, 0), jnp.nan)


@jax.custom_jvp
@jax.jit
def _xlogy(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where((x == 0) & ~jnp.isnan(y), 0, x * jnp.log(y))


@jax.custom_jvp
@jax.jit
def _xlog1py(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where((x == 0) & ~jnp.isnan(y), 0, x * _log1p(y))


_define_slopes(_xlogy, lambda x, y: jnp.log(y), _ratio)
_define_slopes(_xlog1py, lambda x, y: _log1p(y), lambda x, y: _ratio(x, _above_zero(1 + y, y >= -1)))


@jax.custom_jvp
@jax.jit
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


_define_slopes(_log_ratio, lambda p, q: 1 / p, lambda p, q: -1 / q)


@jax.custom_jvp
@jax.jit
def _log_times_e(p: jax.Array) -> jax.Array:
    """1 + log p; near its zero 1 / e, log1p(e (p - 1 / e)) with 1 / e in two parts."""
    head, tail = two_part(INV_E, p.dtype)
    near = (p > 0.25) & (p < 0.5)
    return jnp.where(near, _log1p(((p - head) - tail) / head), 1 + jnp.log(p))


@jax.custom_jvp
@jax.jit
def _entr(p: jax.Array) -> jax.Array:
    return jnp.where(p < 0, -jnp.inf, jnp.where(p == 0, 0, -_xlogy(p, p)))


@jax.custom_jvp
@jax.jit
def _rel_entr(p: jax.Array, q: jax.Array) -> jax.Array:
    inside = jnp.where(p == 0, 0, p * _log_ratio(p, q))
    return jnp.where((p < 0) | (q < 0), jnp.inf, jnp.where(jnp.isnan(p) | jnp.isnan(q), jnp.nan, inside))


_define_slopes(_log_times_e, lambda p: 1 / p)
_define_slopes(_entr, lambda p: -_log_times_e(p))
_define_slopes(_rel_entr, lambda p, q: 1 + _log_ratio(p, q), lambda p, q: -_ratio(p, q))


@jax.custom_jvp
@jax.jit
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
