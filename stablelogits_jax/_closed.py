"""Floor 1: exp, log and their kin in closed form, of what the cores of one number are made."""

from decimal import Decimal
from math import factorial

import jax
import jax.numpy as jnp
import numpy as np

from stablelogits_jax import _log_kernels
from stablelogits_jax._core import core, define_slopes, wide
from stablelogits_jax._double_float import at_least, at_most, fast_two_sum, opaque, polynomial, square_in_parts
from stablelogits_jax._exp_log import LN_2_UPPER, normalized
from stablelogits_jax._series import LN_2, economized


@core(float32=_log_kernels.log_one_plus)
def _log1p(u: jax.Array) -> jax.Array:
    """log(1 + u) for u > -1. With v = 1 + u rounded, log v + (u - (v - 1)) / v, the second term what v left out:
    XLA:CPU's own is 128 ulp off in (-0.42, -0.30) in float64, and 2.5 elsewhere. In float64, where log v is more than
    an ulp off for v near 1, u - u^2 / 2 + u^3 c(u) there, the square in two parts; and for tiny u, whose squares are
    flushed in parts, u - u^2 (1 / 2 - u / 3)."""
    v, lost = fast_two_sum(opaque(1, u.dtype), u)
    y = jnp.where(jnp.isinf(u), u, jnp.log(v) + jnp.where(v == 0, 0, lost / v))
    y = jnp.where(jnp.abs(u) < 2.0**-20, u - u * u * (0.5 - u / 3), y)
    if u.dtype != jnp.float64:
        return y
    near = (u > LOG_RANGE[0]) & (u < LOG_RANGE[1])
    x = jnp.where(near, u, 0)
    square, rest = square_in_parts(x)
    cubic = x * polynomial(LOG_CUBIC, x).rounded()
    s = x - 0.5 * square
    return jnp.where(near, s + (((x - s) - 0.5 * square) + (rest * (cubic - 0.5) + square * cubic)), y)


LOG_RANGE = -0.3125, 0.375
LOG_CUBIC = economized([Decimal((-1) ** j) / (j + 3) for j in range(90)], 21, *LOG_RANGE)
LN_2_SHORT = float(np.float32(LN_2))  # of 24 bits: k of it is exact
LN_2_REST = float(LN_2 - Decimal(LN_2_SHORT))
EXP_CUBIC = economized([1 / Decimal(factorial(n)) for n in range(3, 30)], 11, -0.347, 0.347)


def _exp_parts(x: jax.Array, tail: jax.Array | float = 0.0) -> tuple[jax.Array, jax.Array, jax.Array]:
    """2^k, y and what y leaves out, with exp(x + tail) = 2^k (1 + y), |y| < 0.42, in float64 for x in [-745, 709]:
    y = r + r^2 / 2 + r^3 c(r) with x = k log 2 + r in two parts. A 2^k that is subnormal is 0."""
    x = jnp.clip(x, -745, 709)
    k = jnp.round(x / float(LN_2))
    high, low = (k * part for part in (LN_2_SHORT, LN_2_REST))
    r = (x - high) - low
    r_tail = (((x - high) - r) - low) + tail
    rest = r * r * (0.5 + r * polynomial(EXP_CUBIC, r).rounded()) + (r_tail + r_tail * r)
    y = r + rest
    return jax.lax.bitcast_convert_type(jnp.maximum(k.astype(jnp.int64) + 1023, 0) << 52, x.dtype), y, rest - (y - r)


def _exp(x: jax.Array) -> jax.Array:
    """exp(x) for x <= 0. In float64, where XLA:CPU's is 1.2 ulp off, by parts."""
    if x.dtype != jnp.float64:
        return jnp.exp(x)
    scale, y, lost = _exp_parts(x)
    return jnp.where(jnp.isnan(x), x, scale * (1 + (y + lost)))


def _expm1(x: jax.Array, tail: jax.Array | float = 0.0) -> jax.Array:
    """exp(x + tail) - 1. In float64, where XLA:CPU's is 3 ulp off, (2^k - 1) + 2^k y, the larger of the two first."""
    if x.dtype != jnp.float64:
        return jnp.expm1(x) + tail
    scale, y, lost = _exp_parts(x, tail)
    whole, part = scale - 1, scale * y
    s = whole + part
    larger = jnp.abs(whole) > jnp.abs(part)
    rest = jnp.where(larger, part - (s - whole), whole - (s - part)) + scale * lost
    return jnp.where(jnp.abs(x) < 40, s + rest, jnp.exp(x) - 1)


PHI_OVER_SQUARE = [economized([1 / Decimal(factorial(n)) for n in range(2, 40)], n, -1, 1) for n in (7, 14)]


def _phi_over_square(d: jax.Array) -> jax.Array:
    """(exp(d) - 1 - d) / d^2 = 1/2! + d/3! + d^2/4! + ... for |d| < 1"""
    return _horner(PHI_OVER_SQUARE[d.dtype.itemsize == 8], d)


def _expm1_by_series(d: jax.Array) -> jax.Array:
    """exp(d) - 1 in the series of the divergences; XLA:CPU's, which `_expm1` takes in float32, is 5 ulp off there."""
    return jnp.where(jnp.abs(d) < 1, d + d * d * _phi_over_square(d), jnp.exp(d) - 1)


def _exp_and_excess(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """exp(x), and exp(x) - 1. exp(x) = 2^k (1 + r + r^2 c(r)) with x = k log 2 + r; in one loop with
    what is made of it, which XLA:CPU's own exponential is not, and 0 where 2^k is subnormal: 2^k y may be, and is
    not added to 2^k."""
    info, square = jnp.finfo(x.dtype), EXP_SQUARE[x.dtype.itemsize == 8]
    x = at_most((info.maxexp + 0.4) * float(LN_2), at_least((info.minexp - 1) * float(LN_2), x))
    k = at_most(info.maxexp - 1, jnp.round(x * (1 / float(LN_2))))
    r = (x - k * LN_2_HIGH) - k * LN_2_LOW
    y = r + r * r * _horner(square, r)
    bits = jnp.dtype(f"int{info.bits}")
    scale = jax.lax.bitcast_convert_type((k.astype(bits) + (info.maxexp - 1)) << info.nmant, x.dtype)
    return scale * (1 + y), (scale - 1) + scale * y


def _log_of_sum(f: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log f, and psi = s - log f, of a positive f = 1 + s, of which each has digits that the other lacks: for
    f = 2^k (1 + g), 1 / sqrt(2) < 1 + g < sqrt(2), and r = g / (2 + g)

        psi(g) = g - 2 atanh(r) = g r - r^3 c(r^2)        as g - 2 r = g r; and g = s for k = 0
        log f = k log 2 + g - psi(g)
        psi(s) = psi(g) + (s - k log 2 - g)
    """
    info, cubic = jnp.finfo(f.dtype), ATANH_CUBIC[f.dtype.itemsize == 8]
    bits = jnp.dtype(f"int{info.bits}")
    least = np.asarray(0.5**0.5, f.dtype).view(bits)
    of_f = jax.lax.bitcast_convert_type(f, bits)
    k = (of_f - least) >> info.nmant
    g = jnp.where(k == 0, s, jax.lax.bitcast_convert_type(of_f - (k << info.nmant), f.dtype) - 1)
    r = jnp.maximum(g / (2 + g), -1)  # which is below 1 / 5: a quotient that is used twice would be written out
    high, low = k.astype(f.dtype) * LN_2_HIGH, k.astype(f.dtype) * LN_2_LOW
    psi = g * r - r * r * r * _horner(cubic, r * r)
    return high + (g - (psi - low)), jnp.where(k == 0, psi, (((s - high) - g) - low) + psi)


def _horner(c: list[float], x: jax.Array) -> jax.Array:
    y = jnp.full_like(x, c[-1])
    for a in c[-2::-1]:
        y = y * x + a
    return y


LN_2_HIGH = float(LN_2_UPPER)  # k of it is exact
LN_2_LOW = float(LN_2 - Decimal(LN_2_HIGH))
EXP_SQUARE = [economized([1 / Decimal(factorial(n)) for n in range(2, 30)], n, -0.347, 0.347) for n in (5, 12)]
ATANH_CUBIC = [economized([Decimal(2) / (2 * j + 3) for j in range(40)], n, 0, 0.0295) for n in (3, 9)]


def _unflushed(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x 2^k, 2^k and k log 2, with k = 0 for a normal x >= 0: what is taken of a subnormal one is not taken of 0."""
    y, k = normalized(x)
    return y, jnp.where(k == 0, jnp.ones_like(x), 2.0**64), jnp.where(k == 0, jnp.zeros_like(x), 64 * float(LN_2))


@core
def _complement(log_p: jax.Array) -> jax.Array:
    """1 - p for a probability known by its log; JAX's own rule for expm1 adds 1 to it, which loses p again."""
    return -jnp.expm1(log_p)


define_slopes(_log1p, lambda u: 1 / (1 + wide(u)))
define_slopes(_complement, lambda log_p: -jnp.exp(wide(log_p)))
