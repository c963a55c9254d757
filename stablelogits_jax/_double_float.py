"""Floor 0: float32 numbers carried as an unevaluated sum head + tail, with the digits of nearly two of them.

A result is right to one rounding if what is rounded is right to a few bits more than a float holds. Pairs carry those
bits through the few operations of which the functions on logits are made. No operation relies on a fused multiply-add,
nor is harmed by one: products are split until they are exact.

    two_sum(a, b)       s = round(a + b), and a + b - s, which is a float                   (Knuth, 1969)
    fast_two_sum(a, b)  the same for |a| >= |b|: b - (s - a)                                 (Dekker, 1971)
    upper(a)            the upper 12 of 24 bits: upper(a) upper(b) is exact                  (Dekker, 1971)
    times               products of upper parts, exact, and what they leave out
    over                quotients whose remainder is formed of exact products
    exponential         exp(x) = 2^k (1 + r + r^2 / 2 + r^3 c(r)) with x = k log 2 + r in two parts, |r| <= log(2) / 2
    log1p               log(1 + n) = n - n^2 / 2 + n^3 c(n) for n in [-5 / 16, 6 / 16], with n^2 in two parts
    log_ratio           log(a / b) = 2 atanh((a - b) / (a + b)) for a / b near 1

Polynomials c are economized power series. They multiply what is a sixteenth of the result or less, so
that four roundings of theirs are an eighth of one.

What XLA does to such code, and what is done about it: it folds (x + 1) - 1 to x for a 1 that it knows, so constants of
sums are hidden behind a barrier (`opaque`). And it writes a quotient to memory, and with it all that it is made of, if
it has two users; a maximum between, which changes nothing, leaves one (`_used_once`).
"""

from decimal import Decimal
from math import factorial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stablelogits_jax._series import LN_2, economized


def parts(constant: Decimal, dtype: Any, count: int = 2) -> list[jax.Array]:
    """round(constant), round(constant - that), ...: `count` numbers with the digits of as many floats of `dtype`.

    XLA must not know the values: it folds (x - head) - tail to x - (head + tail), which is x - head.
    """
    scalar = np.dtype(dtype).type
    found = []
    for _ in range(count):
        found.append(scalar(constant))
        constant -= Decimal(float(found[-1]))
    return list(jax.lax.optimization_barrier(tuple(found)))


def in_one_loop(x: jax.Array, y: jax.Array) -> jax.Array:
    """y, made of x, and NaN where x is. XLA:CPU pulls the last steps of y into a reduction that follows, and writes
    out all that both its parts use; from a selection on, y is computed in one loop."""
    return jnp.where(jnp.isnan(x), x, y)


# Pairs ------------------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """head + tail. The tail is small beside the head, but need not be below its last digit."""

    head: jax.Array
    tail: jax.Array

    def rounded(self) -> jax.Array:
        return self.head + self.tail

    def __neg__(self) -> "Pair":
        return Pair(-self.head, -self.tail)

    def scaled(self, power_of_two: Any) -> "Pair":
        return Pair(self.head * power_of_two, self.tail * power_of_two)


def exact(x: jax.Array) -> Pair:
    return Pair(x, jnp.zeros_like(x))


def where(condition: jax.Array, a: Pair, b: Pair) -> Pair:
    return Pair(jnp.where(condition, a.head, b.head), jnp.where(condition, a.tail, b.tail))


def opaque(number: float, dtype: Any = np.float32) -> jax.Array:
    return jax.lax.optimization_barrier(jnp.asarray(number, dtype))


def at_least(low: Any, x: jax.Array) -> jax.Array:
    """max(low, x), one instruction where jnp.maximum, which sees to a NaN in `low` too, takes three."""
    return jnp.where(low > x, low, x)


def at_most(high: Any, x: jax.Array) -> jax.Array:
    return jnp.where(high < x, high, x)


def two_sum(a: jax.Array, b: jax.Array) -> Pair:
    s = a + b
    t = s - a
    return Pair(s, (a - (s - t)) + (b - t))


def fast_two_sum(a: jax.Array, b: jax.Array) -> Pair:
    s = a + b
    return Pair(s, b - (s - a))


def plus(a: Pair, b: Pair) -> Pair:
    s = two_sum(a.head, b.head)
    return Pair(s.head, s.tail + (a.tail + b.tail))


def one_plus(a: Pair) -> Pair:
    """For |a| < 2."""
    s = fast_two_sum(opaque(1), a.head)
    return Pair(s.head, s.tail + a.tail)


def upper(a: jax.Array) -> jax.Array:
    bits = jax.lax.bitcast_convert_type(a, jnp.uint32) & np.uint32(0xFFFFF000)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def square_of(x: jax.Array) -> Pair:
    """x^2, the head with 24 bits of its own: half of it is exact."""
    a = upper(x)
    return Pair(a * a, (x - a) * (x + a))


def halves(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The upper half of the digits and the lower, in any type: products of halves are exact."""
    info = jnp.finfo(x.dtype)
    high = jax.lax.reduce_precision(x, info.nexp, (info.nmant - 1) // 2)
    return high, x - high


def square_in_parts(x: jax.Array) -> Pair:
    """x^2 in any type, as `square_of`."""
    high, low = halves(x)
    return Pair(high * high, low * (x + high))


def times(a: Pair, b: Pair) -> Pair:
    a_head, b_head = upper(a.head), upper(b.head)
    a_tail, b_tail = (a.head - a_head) + a.tail, (b.head - b_head) + b.tail
    return Pair(a_head * b_head, a_tail * (b_head + b_tail) + a_head * b_tail)


def _used_once(quotient: jax.Array) -> jax.Array:
    return jnp.maximum(quotient, np.finfo(np.float32).min)


def over(a: Pair, b: Pair) -> Pair:
    """With q = upper(a / b), a / b = q + (a - q b) / b, and a - q b is a sum of exact products and small ones."""
    inverse = _used_once(1 / b.rounded())
    q, b_head = upper(a.rounded() * inverse), upper(b.head)
    remainder = ((a.head - q * b_head) - q * (b.head - b_head)) + (a.tail - q * b.tail)
    return Pair(q, remainder * inverse)


# Polynomials ------------------------------------------------------------------------------------------------------


def polynomial(c: list[float], x: jax.Array) -> Pair:
    """c_0 and x (...) + what c_0 is off, the sum by pairs of terms, then pairs of pairs: fewer steps wait for one
    another than in Horner's rule, and all round less than they would beside c_0."""
    scalar, power = np.dtype(x.dtype).type, x
    first, *terms = (scalar(a) for a in c)
    while len(terms) > 1:
        odd = [None] if len(terms) % 2 else []
        pairs = zip(terms[::2], [*terms[1::2], *odd], strict=True)
        terms = [even if odd is None else even + power * odd for even, odd in pairs]
        power = power * power
    return Pair(jnp.full_like(x, first), x * terms[0] + opaque(c[0] - float(first), x.dtype))


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


def less(a: Pair, b: Pair) -> Pair:
    """a - b with a head that is rounded from the whole."""
    s = two_sum(a.head, -b.head)
    return fast_two_sum(s.head, s.tail + (a.tail - b.tail))


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
