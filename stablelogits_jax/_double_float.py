"""Floor 0: float32 numbers carried as an unevaluated sum head + tail, with the digits of nearly two of them.

A result is right to one rounding if what is rounded is right to a few bits more than a float holds. Pairs carry those
bits through the few operations of which the functions on logits are made. No operation relies on a fused multiply-add,
nor is harmed by one: products are split until they are exact.

    two_sum(a, b)       s = round(a + b), and a + b - s, which is a float                   (Knuth, 1969)
    fast_two_sum(a, b)  the same for |a| >= |b|: b - (s - a)                                 (Dekker, 1971)
    upper(a)            the upper 12 of 24 bits: upper(a) upper(b) is exact                  (Dekker, 1971)
    times, over         products and quotients whose remainder is formed of exact products
    exponential         exp(x) = 2^k (1 + r + r^2 / 2 + ...) with x = k log 2 + r in two parts, |r| <= log(2) / 2
    log_ratio           log(a / b) = k log 2 + 2 atanh((a - 2^k b) / (a + 2^k b)), the argument at most 0.172

What XLA does to such code, and what is done about it: it folds (x + 1) - 1 to x for a 1 that it knows, so constants of
sums are hidden behind a barrier (`opaque`). And it writes a quotient to memory, and with it all that it is made of, if
it has two users; a maximum between, which changes nothing, leaves one (`_used_once`).
"""

from decimal import Decimal
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

LN_2 = Decimal("0.693147180559945309417232121458176568075500134360255254120680009493393621969694715605863327")
INV_E = Decimal("0.367879441171442321595523770161460867445811131031767834507836801697461495744899803357147274")


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


def opaque(number: float) -> jax.Array:
    return jax.lax.optimization_barrier(jnp.float32(number))


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
    """For |a| <= 1."""
    s = fast_two_sum(opaque(1), a.head)
    return Pair(s.head, s.tail + a.tail)


def upper(a: jax.Array) -> jax.Array:
    bits = jax.lax.bitcast_convert_type(a, jnp.uint32) & np.uint32(0xFFFFF000)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def times(a: Pair, b: Pair) -> Pair:
    a_head, b_head = upper(a.head), upper(b.head)
    a_tail, b_tail = (a.head - a_head) + a.tail, (b.head - b_head) + b.tail
    return Pair(a_head * b_head, a_tail * (b_head + b_tail) + a_head * b_tail)


def _used_once(quotient: jax.Array) -> jax.Array:
    return jnp.maximum(quotient, np.float32(np.finfo(np.float32).min))


def over(a: Pair, b: Pair) -> Pair:
    """With q = upper(a / b), a / b = q + (a - q b) / b, and a - q b is a sum of exact products and small ones."""
    inverse = _used_once(1 / b.rounded())
    q, b_head = upper(a.rounded() * inverse), upper(b.head)
    remainder = ((a.head - q * b_head) - q * (b.head - b_head)) + (a.tail - q * b.tail)
    return Pair(q, remainder * inverse)


# exp --------------------------------------------------------------------------------------------------------------


def _short(constant: Decimal, bits: int) -> np.float32:
    """The upper `bits` of the constant's 24: its product with a number of 24 - bits bits is exact."""
    size = np.float32(constant)
    return (size.view(np.uint32) & np.uint32(0xFFFFFFFF << (24 - bits) & 0xFFFFFFFF)).view(np.float32)


LN_2_UPPER = _short(LN_2, 15)
LN_2_MIDDLE = _short(LN_2 - Decimal(float(LN_2_UPPER)), 15)
LN_2_LOWER = np.float32(LN_2 - Decimal(float(LN_2_UPPER)) - Decimal(float(LN_2_MIDDLE)))
LOWEST = np.float32(-104)  # exp of it is 0 in float32


class Exponential(NamedTuple):
    """2^k (1 + head + middle + tail), the parts of falling size, |head| <= log(2) / 2."""

    k: jax.Array
    head: jax.Array
    middle: jax.Array
    tail: jax.Array

    def scale(self, more: int = 0) -> jax.Array:
        """2^(k + more), and 0 where that is no normal number."""
        return power_of_two(jnp.maximum(self.k + more, np.float32(-127)))

    def mantissa(self) -> Pair:
        """1 + head + ..., without the scale: the tail of the product would be flushed long before its head."""
        s = fast_two_sum(opaque(1), self.head)
        t = fast_two_sum(s.head, self.middle)
        return Pair(t.head, t.tail + (s.tail + self.tail))

    def excess(self) -> Pair:
        """head + middle + tail: the mantissa less 1."""
        s = fast_two_sum(self.head, self.middle)
        return Pair(s.head, s.tail + self.tail)

    def value(self) -> Pair:
        return self.mantissa().scaled(self.scale())

    def minus_one(self) -> Pair:
        """(2^k - 1) + 2^k (head + ...), in which nothing cancels but two exact numbers."""
        scale, excess = self.scale(), self.excess()
        low = fast_two_sum(-opaque(1), scale)
        s = two_sum(low.head, scale * excess.head)
        return fast_two_sum(s.head, s.tail + (low.tail + scale * excess.tail))


def exponential(x: Pair) -> Exponential:
    """exp(x) for x <= 0, or up to 1e-6 above."""
    head = jnp.maximum(x.head, LOWEST)
    k = jnp.round(head * np.float32(1 / float(LN_2)))
    rough = head - k * LN_2_UPPER
    r = rough - k * LN_2_MIDDLE
    r_tail = (((rough - r) - k * LN_2_MIDDLE) - k * LN_2_LOWER) + x.tail
    a = upper(r)
    square = r * r
    c = [np.float32(1 / n) for n in (6, 24, 120, 720, 5040, 40320)]
    cubic = (c[0] + r * c[1]) + square * ((c[2] + r * c[3]) + square * (c[4] + r * c[5]))
    half = np.float32(0.5)
    tail = (half * (r - a) * (r + a) + (square * r) * cubic) + (r_tail + r_tail * r)
    return Exponential(k, r, half * a * a, tail)


def power_of_two(k: jax.Array) -> jax.Array:
    """2^k for a whole k in [-126, 127], and 0 for -127."""
    return jax.lax.bitcast_convert_type((k.astype(jnp.int32) + 127) << 23, jnp.float32)


# log --------------------------------------------------------------------------------------------------------------

SQRT_HALF = np.float32(np.sqrt(0.5)).view(np.int32)
LN_2_HEAD = _short(LN_2, 16)
LN_2_TAIL = np.float32(LN_2 - Decimal(float(LN_2_HEAD)))


def exponent(ratio: jax.Array) -> jax.Array:
    """The whole k with ratio / 2^k in [0.7071, 1.4142)."""
    bits = jax.lax.bitcast_convert_type(ratio, jnp.int32)
    return ((bits - SQRT_HALF) >> 23).astype(jnp.float32)


def log_ratio(a: Pair, b: Pair, k: jax.Array | None = None) -> Pair:
    """log(a / b) for positive a and b, with a / b in [2^k / 1.42, 1.42 2^k]; without k, in [1 / 1.42, 1.42]."""
    if k is not None:  # the smaller one is scaled up: differences of the larger one, scaled down, might be flushed
        a, b = a.scaled(power_of_two(jnp.maximum(-k, 0))), b.scaled(power_of_two(jnp.maximum(k, 0)))
    return log_of(over(plus(a, -b), plus(a, b)), k)


def log_of(q: Pair, k: jax.Array | None = None) -> Pair:
    """k log 2 + 2 atanh(q) for |q| <= 0.1716."""
    s = q.rounded()
    square = s * s
    c = [np.float32(2 / n) for n in (3, 5, 7, 9)]
    tail = 2 * q.tail + (square * s) * ((c[0] + square * c[1]) + (square * square) * (c[2] + square * c[3]))
    if k is None:
        return Pair(2 * q.head, tail)
    s = two_sum(k * LN_2_HEAD, 2 * q.head)
    return Pair(s.head, s.tail + (tail + k * LN_2_TAIL))
