"""Floor 1: sigmoid, tanh, their slopes and integrals of float32 numbers in double-float, rounded once.

Each says its algebra in e = exp(-x) = 2^k m, taken over the larger of 2^k and 1, so that nothing overflows; softplus
and log cosh in exp(-|x|). Where e is below 2^-25 of what it is added to, the pairs leave it out by themselves. NaN
passes through by itself, too, where no comparison stands for it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stablelogits_jax._double_float import (
    Pair,
    at_least,
    exact,
    fast_two_sum,
    in_one_loop,
    less,
    opaque,
    over,
    parts,
    plus,
    polynomial,
    square_of,
    times,
    where,
)
from stablelogits_jax._exp_log import LEAST_MANTISSA, Exponential, exponential, log1p, power_of_two
from stablelogits_jax._series import LN_2, economized, log_cosh_series

LINEAR = np.float32(2.0**-14)  # odd functions are linear below it: x^2 is less than the last digit of 1
FAINT = -11  # the exponent of an e so small that 1 + e, pair or not, rounds off digits of e


def _one(x: jax.Array) -> Pair:
    return exact(jnp.full_like(x, opaque(1)))


class _Odds(NamedTuple):
    """exp(-x) = 2^k m against 1, both over the larger of 2^k and 1, so that no power overflows: with s = 2^-|k|, s m
    against 1, or m against s. Their product is s m for either, `total` is their sum."""

    e: Exponential
    scale: jax.Array
    against: jax.Array
    excess: Pair
    total: Pair

    def gap(self) -> Pair:
        """The 1, or s, less the other."""
        difference = fast_two_sum(opaque(1), -self.scale)
        return less(where(self.e.k > 0, -difference, difference), self.excess)


def _odds(x: Pair, beside_one: bool = False) -> _Odds:
    e = exponential(-x, beside_one)
    scale = power_of_two(-jnp.abs(e.k))
    against, factor = (jnp.where(c, scale, 1) for c in (e.k > 0, e.k <= 0))
    excess, sum = e.excess.scaled(factor), fast_two_sum(opaque(1), scale)
    total = fast_two_sum(sum.head, excess.head)
    return _Odds(e, scale, against, excess, Pair(total.head, total.tail + sum.tail + excess.tail))


def sigmoid(x: jax.Array) -> jax.Array:
    return sigmoid_at(exact(x))


def sigmoid_at(x: Pair) -> jax.Array:
    """1 / (1 + exp(-x))"""
    odds = _odds(x, beside_one=True)
    return in_one_loop(x.head, over(_one(x.head), odds.total).rounded() * odds.against)


def sigmoid_parts(x: Pair) -> tuple[Pair, jax.Array]:
    """y and k of sigmoid(x) = 2^k y"""
    odds = _odds(x, beside_one=True)
    return over(_one(x.head), odds.total), -at_least(0, odds.e.k)


def bell(x: jax.Array) -> jax.Array:
    return bell_at(exact(x))


def bell_at(x: Pair) -> jax.Array:
    """e / (1 + e)^2"""
    odds = _odds(x, beside_one=True)
    return in_one_loop(x.head, over(odds.e.mantissa(), times(odds.total, odds.total)).rounded() * odds.scale)


def bell_parts(x: Pair) -> tuple[Pair, jax.Array]:
    odds = _odds(x, beside_one=True)
    return over(odds.e.mantissa(), times(odds.total, odds.total)), -jnp.abs(odds.e.k)


def bell_slope(x: jax.Array) -> jax.Array:
    """-e (1 - e) / (1 + e)^3 with e = exp(-x); -x / 8 for small x, whose digits would be flushed from the products"""
    return jnp.where(jnp.abs(x) < LINEAR, -x / 8, _falling(x, 0))


def _falling(x: jax.Array, more: int) -> jax.Array:
    """-2^more e (1 - e) / (1 + e)^3"""
    odds = _odds(exact(x))
    y = over(times(-odds.gap(), odds.e.mantissa()), times(odds.total, times(odds.total, odds.total)))
    return y.rounded() * power_of_two(more - jnp.abs(odds.e.k))


def tanh(x: jax.Array) -> jax.Array:
    """(1 - e) / (1 + e) with e = exp(-2 x); x itself where x^3 / 3 is below its last digit"""
    odds = _odds(exact(2 * x))
    y = over(odds.gap(), odds.total).rounded()
    return jnp.where(jnp.abs(x) < np.float32(1e-4), x - x * (x * x) / 3, y)


def sech_squared(x: jax.Array) -> jax.Array:
    """4 e / (1 + e)^2 with e = exp(-2 x)"""
    odds = _odds(exact(2 * x))
    y = over(odds.e.mantissa(), times(odds.total, odds.total))
    return in_one_loop(x, y.rounded() * power_of_two(2 - jnp.abs(odds.e.k)))


def sech_squared_slope(x: jax.Array) -> jax.Array:
    """-8 e (1 - e) / (1 + e)^3 with e = exp(-2 x); -2 x for small x"""
    return jnp.where(jnp.abs(x) < LINEAR, -2 * x, _falling(2 * x, 3))


def _decaying(x: jax.Array) -> Exponential:
    """exp(-|x|), which XLA computes once for x and -x."""
    return exponential(exact(-jnp.abs(x)))


def softplus(x: jax.Array) -> jax.Array:
    y = softplus_pair(x).rounded()
    return jnp.where(x == jnp.inf, x, y)


def softplus_pair(x: jax.Array) -> Pair:
    """max(x, 0) + log(1 + e)"""
    return plus(exact(at_least(np.float32(0), x)), log_one_plus_e(_decaying(x)))


def log_one_plus_e(e: Exponential) -> Pair:
    """log(1 + e), for e above 3 / 8 as log 2 + log(1 + (e - 1) / 2)"""
    value = fast_two_sum(*e.value())
    above = value.head > np.float32(2 * LEAST_MANTISSA - 1)
    n = where(above, e.minus_one().scaled(np.float32(0.5)), value)
    return where(e.k < FAINT, _series(e, 1), log1p(n, jnp.where(above, np.float32(1), np.float32(0))))


def _series(e: Exponential, sign: int) -> Pair:
    """log(1 +- e) = +-(e -+ e^2 / 2 + e^3 / 3) for e < 4e-4, scaled last: the tail of e is flushed before its head."""
    m, scale = e.mantissa(), e.scale()
    value = m.rounded() * scale
    correction = m.rounded() * (value * (np.float32(0.5) - value * np.float32(sign / 3)))
    return fast_two_sum(m.head, m.tail - sign * correction).scaled(sign * scale)


SMALL_COSH = np.float32(0.6)
LOG_COSH = economized(log_cosh_series(40), 6, 0, float(SMALL_COSH) ** 2)


def log_cosh(x: jax.Array) -> jax.Array:
    """(1) |x| - log 2 + log(1 + exp(-2 |x|))        cancels for small x
    (2) x^2 / 2 + x^4 (-1 / 12 + ...)        for small x, the square in two parts
    """
    a = jnp.abs(x)
    square = square_of(a)
    quartic = times(square, times(square, fast_two_sum(*polynomial(LOG_COSH, square.rounded()))))
    small = plus(square.scaled(np.float32(0.5)), quartic).rounded()
    head, tail = parts(LN_2, np.float32)
    far = plus(plus(exact(a), Pair(-head, -tail)), log_one_plus_e(_decaying(2 * x))).rounded()
    y = jnp.where(a < SMALL_COSH, small, jnp.where(a == jnp.inf, a, far))
    return jnp.where(a < np.float32(1e-4), a * (a * np.float32(0.5)), y)
