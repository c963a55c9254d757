"""Floor 0: float32 numbers carried as an unevaluated sum head + tail, with the digits of nearly two of them.

A result is right to one rounding if what is rounded is right to a few bits more than a float holds. Pairs carry those
bits through the few operations of which the functions on logits are made. No operation relies on a fused multiply-add,
nor is harmed by one: products are split until they are exact.

    two_sum(a, b)       s = round(a + b), and a + b - s, which is a float                   (Knuth, 1969)
    fast_two_sum(a, b)  the same for |a| >= |b|: b - (s - a)                                 (Dekker, 1971)
    upper(a)            the upper 12 of 24 bits: upper(a) upper(b) is exact                  (Dekker, 1971)
    times               products of upper parts, exact, and what they leave out
    over                quotients whose remainder is formed of exact products

What XLA does to such code, and what is done about it: it folds (x + 1) - 1 to x for a 1 that it knows, so constants of
sums are hidden behind a barrier (`opaque`). And it writes a quotient to memory, and with it all that it is made of, if
it has two users; a maximum between, which changes nothing, leaves one (`_used_once`).
"""

from decimal import Decimal
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


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


def written(x: jax.Array) -> jax.Array:
    """x, on a CPU as a quotient, which XLA writes out if several use it; what is cheap it computes for each of them,
    and a quotient of a number that all have in common it makes a product."""
    return jax.lax.platform_dependent(x, cpu=lambda x: x / jnp.where(jnp.isnan(x), x, 1), default=lambda x: x)


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


def less(a: Pair, b: Pair) -> Pair:
    """a - b with a head that is rounded from the whole."""
    s = two_sum(a.head, -b.head)
    return fast_two_sum(s.head, s.tail + (a.tail - b.tail))


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
