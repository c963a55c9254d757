"""Floor 0: exp and log of pairs of float32 numbers (`_double_float.py`).

    exponential         exp(x) = 2^k (1 + r + r^2 / 2 + r^3 c(r)) with x = k log 2 + r in two parts, |r| <= log(2) / 2
    log1p               log(1 + n) = n - n^2 / 2 + n^3 c(n) for n in [-5 / 16, 6 / 16], with n^2 in two parts
    log_ratio           log(a / b) = 2 atanh((a - b) / (a + b)) for a / b near 1

Polynomials c are economized power series. They multiply what is a sixteenth of the result or less, so that four
roundings of theirs are an eighth of one.
"""

from decimal import Decimal
from math import factorial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stablelogits_jax._double_float import (
    Pair,
    at_least,
    at_most,
    fast_two_sum,
    less,
    one_plus,
    opaque,
    over,
    plus,
    polynomial,
    square_of,
)
from stablelogits_jax._series import LN_2, economized

# exp --------------------------------------------------------------------------------------------------------------


def _short(constant: Decimal, bits: int) -> np.float32:
    """The upper `bits` of the constant's 24: its product with a number of 24 - bits bits is exact."""
    size = np.float32(constant)
    return (size.view(np.uint32) & np.uint32(0xFFFFFFFF << (24 - bits) & 0xFFFFFFFF)).view(np.float32)


LN_2_UPPER = _short(LN_2, 15)
LN_2_MIDDLE = _short(LN_2 - Decimal(float(LN_2_UPPER)), 15)
LN_2_LOWER = np.float32(LN_2 - Decimal(float(LN_2_UPPER)) - Decimal(float(LN_2_MIDDLE)))
FARTHEST = np.float32(104)  # exp(-104) is 0 in float32
CUBIC = economized(
    [1 / Decimal(factorial(n)) for n in range(3, 20)], 4, -0.347, 0.347
)  # of (exp(r) - 1 - r - r^2 / 2) / r^3


class Exponential(NamedTuple):
    """2^k (1 + excess), |excess| < 0.42."""

    k: jax.Array
    excess: Pair

    def scale(self) -> jax.Array:
        """2^k, and 0 where that is no normal number."""
        return power_of_two(self.k)

    def mantissa(self) -> Pair:
        """1 + excess, without the scale: the tail of the product would be flushed long before its head."""
        return one_plus(self.excess)

    def value(self) -> Pair:
        return self.mantissa().scaled(self.scale())

    def minus_one(self) -> Pair:
        """For k <= 0 (2^k - 1) + 2^k excess, in which nothing cancels but two exact numbers."""
        scale = self.scale()
        return less(fast_two_sum(-opaque(1), scale), -self.excess.scaled(scale))


def exponential(x: Pair, beside_one: bool = False) -> Exponential:
    """exp(x) for |x| <= 104, and beyond that exp(104) or exp(-104).

    The excess is right to its own digits, be it ever so small, or, in fewer steps, right to those of the 1 beside it.
    """
    head = at_most(FARTHEST, at_least(-FARTHEST, x.head))
    k = jnp.round(head * np.float32(1 / float(LN_2)))
    rough = head - k * LN_2_UPPER
    r = rough - k * LN_2_MIDDLE
    r_tail = (((rough - r) - k * LN_2_MIDDLE) - k * LN_2_LOWER) + x.tail
    square, rest = (r * r, 0) if beside_one else square_of(r)
    half, y = np.float32(0.5), r * polynomial(CUBIC, r).rounded()
    s = fast_two_sum(r, half * square)
    low = square * y + rest * (half + y)
    return Exponential(k, Pair(s.head, s.tail + (low + (r_tail + r_tail * (s.head + low)))))


def power_of_two(k: jax.Array) -> jax.Array:
    """2^k for a whole k <= 127, and 0 below -126."""
    return jax.lax.bitcast_convert_type(jnp.maximum(k.astype(jnp.int32) + 127, 0) << 23, jnp.float32)


# log --------------------------------------------------------------------------------------------------------------

LN_2_HEAD = _short(LN_2, 16)
LN_2_TAIL = np.float32(LN_2 - Decimal(float(LN_2_HEAD)))
LEAST_MANTISSA = 11 / 16  # a larger n errs more, and so does a smaller one, of which k log 2 takes digits away
# of (log(1 + n) - n + n^2 / 2) / n^3 - 1 / 4
LOG_SERIES = [Decimal((-1) ** j) / (j + 3) - (Decimal(1) / 4 if j == 0 else 0) for j in range(60)]
LOG_CUBIC = economized(LOG_SERIES, 9, LEAST_MANTISSA - 1, 2 * LEAST_MANTISSA - 1)
# of (atanh(q) - q) / q^3, in q^2
ATANH_CUBIC = economized([1 / Decimal(2 * j + 3) for j in range(40)], 3, 0, 0.2021**2)


def _bits(x: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(x, jnp.int32)


def normalized(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x 2^k, and k: 0 for a normal x >= 0, and 64 for a subnormal one, whose digits are those of a whole number. XLA
    flushes it in every other operation, and takes it for 0 in comparisons."""
    info = jnp.finfo(x.dtype)
    bits = jax.lax.bitcast_convert_type(x, jnp.dtype(f"int{info.bits}"))
    subnormal = (bits >= 0) & (bits < 1 << info.nmant)
    whole = bits.astype(x.dtype) * np.dtype(x.dtype).type(2.0 ** (64 + info.minexp - info.nmant))
    return jnp.where(subnormal, whole, x), jnp.where(subnormal, 64, 0)


LOW = np.float32(LEAST_MANTISSA).view(np.int32)


def mantissa(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """m in [11 / 16, 22 / 16) and k with x = 2^k m for a positive normal x."""
    k = (_bits(x) - LOW) >> 23
    return jax.lax.bitcast_convert_type(_bits(x) - (k << 23), jnp.float32), k


def distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """The whole k with a / b / 2^k in [0.665, 1.505]: the bits of a float are its log_2 to 0.09, but for a constant."""
    return (_bits(a) - _bits(b) + (1 << 22)) >> 23


def log1p(n: Pair, k: jax.Array | None = None) -> Pair:
    """k log 2 + log(1 + n) for n in [-5 / 16, 6 / 16]. Of the head x - x^2 / 2 + x^3 / 4 + x^3 (1 / 12 + ...), the
    square in two parts; the quarter is taken out as it rounds nothing. Of the tail (1 - x) (1 + x^2) + x^4 - ...
    """
    x, half, quarter = n.head, np.float32(0.5), np.float32(0.25)
    square, rest = square_of(x)
    cube, c = square * x, polynomial(LOG_CUBIC, x).rounded()
    s = fast_two_sum(x, -half * square)
    low = n.tail * ((1 - x) * (1 + square)) + (cube * quarter + (cube * c + rest * ((x * quarter + x * c) - half)))
    return _with_exponent(Pair(s.head, s.tail + low), k)


def log_ratio(a: Pair, b: Pair, k: jax.Array | None = None) -> Pair:
    """k log 2 + log(a / b) = k log 2 + 2 atanh((a - b) / (a + b)) for positive a and b, with a / b in [0.66, 1.51]"""
    return twice_atanh(over(plus(a, -b), plus(a, b)), k)


def twice_atanh(q: Pair, k: jax.Array | None = None) -> Pair:
    """k log 2 + 2 atanh(q) for |q| <= 0.2021."""
    s = q.rounded()
    square = s * s
    return _with_exponent(Pair(2 * q.head, 2 * (q.tail + (square * s) * polynomial(ATANH_CUBIC, square).rounded())), k)


def _with_exponent(log: Pair, k: jax.Array | None) -> Pair:
    if k is None:
        return log
    k = k.astype(jnp.float32)
    s = fast_two_sum(k * LN_2_HEAD, log.head)
    return Pair(s.head, s.tail + (log.tail + k * LN_2_TAIL))
