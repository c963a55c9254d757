"""Floor 1: what losses make of a surprisal s = -log p >= 0 other than s itself.

A surprisal keeps the digits of 1 - p = 1 - exp(-s), which a rounded p has lost.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from stablelogits_jax._bivariate import _times
from stablelogits_jax._closed import _complement, _exp, _expm1, _log1p, _phi_over_square
from stablelogits_jax._core import core, define_slopes, wide
from stablelogits_jax._univariate import _log1mexp

FAR = 1e30


def _product(s: jax.Array, a: jax.Array, b: jax.Array, scale: jax.Array) -> jax.Array:
    """scale (1 - p)^a p^b, in one exponential: where one factor is infinite, another may be 0. A power of 0 is 1, and a
    scale of 0, such as gamma (gamma - 1) of a second slope, makes it 0 at any s.

    What is selected is cheap: XLA:CPU makes a branch, and no vectors, of a selection of what is not. a times the
    logarithm's absolute error is the result's relative one, so the logarithm need not be log1mexp; but of 1 - p near 1
    it has what that rounds off.
    """
    a, b = (jnp.where(scale == 0, 0, power) for power in (a, b))
    miss = -_expm1(-s)
    lost = jnp.where(miss > 0.5, (1 - miss) - jnp.exp(-s), 0)
    log_miss = jnp.maximum(jnp.log(miss) + lost / jnp.maximum(miss, 0.5), -FAR)
    return scale * jnp.exp(a * log_miss - jnp.where(b == 0, 0, b * s))


@core
def _decay(s: jax.Array, a: jax.Array, b: jax.Array, scale: jax.Array) -> jax.Array:
    return _product(s, a, b, scale)


@core
def _decaying(s: jax.Array, a: jax.Array, b: jax.Array, scale: jax.Array) -> jax.Array:
    """s times that: a product rule outside would multiply an infinite s to a slope of 0. At s = 0 it is 0, as it comes
    with a term of `_decay` that is infinite if its limit is."""
    largest = float(jnp.finfo(s.dtype).max)
    s_times = jnp.where((b == 0) & (scale != 0), s, jnp.minimum(s, FAR))
    return s_times * jnp.clip(_product(s, a, b, scale), -largest, largest)


def _falls(f: Callable, s: jax.Array, a: jax.Array, b: jax.Array, scale: jax.Array) -> jax.Array:
    """The slope in s of (1 - p)^a p^b, times what else f has: (1 - p)' = p."""
    return f(s, a - 1, b + 1, scale * a) - f(s, a, b, scale * b)


def _in_power(f: Any, slope: Callable) -> Any:
    """f log(1 - p), the slope of f in a, whose own in s is slope(s) log(1 - p) + f p / (1 - p): as a product of rules
    it would multiply an infinite logarithm, or its slope, to an f of 0."""

    @core
    def g(s: jax.Array, a: jax.Array, b: jax.Array, scale: jax.Array) -> jax.Array:
        return _times.closed(f.closed(s, a, b, scale), _log1mexp(s))

    define_slopes(
        g,
        lambda s, a, b, scale: slope(s, a, b, scale) + f(s, a - 1, b + 1, scale),
        lambda *of: _times(g(*of), _log1mexp(of[0])),
        lambda *of: -_times(g(*of), of[0]),
        lambda s, a, b, scale: g(s, a, b, jnp.ones_like(scale)),
    )
    return g


_decay_in_power = _in_power(_decay, lambda *of: _falls(_decay_in_power, *of))
_decaying_in_power = _in_power(_decaying, lambda *of: _decay_in_power(*of) + _falls(_decaying_in_power, *of))
define_slopes(
    _decay,
    lambda *of: _falls(_decay, *of),
    _decay_in_power,
    lambda *of: -_decaying(*of),
    lambda s, a, b, scale: _decay(s, a, b, jnp.ones_like(scale)),
)
define_slopes(
    _decaying,
    lambda *of: _decay(*of) + _falls(_decaying, *of),
    _decaying_in_power,
    lambda *of: -_times(_decaying(*of), of[0]),
    lambda s, a, b, scale: _decaying(s, a, b, jnp.ones_like(scale)),
)


class Modulation(NamedTuple):
    """f(s, number), and its quick forms f(s, number, p), right for p <= 1/2, where 1 - p is 1 - p: f itself, and its
    slope in s as the a and b of a + b p."""

    f: Callable
    quick: Callable
    quick_slope: Callable

    def slope(self, s: jax.Array, number: jax.Array) -> jax.Array:
        return jax.jvp(lambda s: self.f(s, number), (s,), (jnp.ones_like(s),))[1]


def _focal(s: jax.Array, gamma: jax.Array) -> jax.Array:
    """(1 - p)^gamma s"""
    zero = jnp.zeros((1,) * s.ndim, s.dtype)
    return _decaying(s, gamma, zero, zero + 1)


def _power(p: jax.Array, n: jax.Array) -> jax.Array:
    """(1 - p)^n for p in [0, 1/2]. The n that XLA knows need no logarithm."""
    c = 1 - p
    return jnp.where(n == 2, c * c, jnp.where(n == 1, c, _exp(n * _log1p.closed(-p))))


def _quick_focal(s: jax.Array, gamma: jax.Array, p: jax.Array) -> jax.Array:
    return _power(p, gamma) * s


def _quick_focal_slope(s: jax.Array, gamma: jax.Array, p: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(1 - p)^gamma + gamma (1 - p)^(gamma - 1) s p, to which an s beyond 1000 adds 0."""
    return _power(p, gamma), gamma * _power(p, gamma - 1) * jnp.minimum(s, 1000)


@core
def _poly(s: jax.Array, epsilon: jax.Array) -> jax.Array:
    """s + epsilon (1 - p) = (1 + epsilon) (1 - p) + phi(-s), of which no term is negative for epsilon >= -1"""
    near = jnp.minimum(s, 1)
    phi = jnp.where(s < 1, near * near * _phi_over_square(-near), s + _expm1(-s))
    return phi - (1 + epsilon) * _expm1(-s)


@core
def _poly_slope(s: jax.Array, epsilon: jax.Array) -> jax.Array:
    """1 + epsilon p = (1 + epsilon) p + 1 - p, in the same way"""
    return (1 + epsilon) * _exp(-s) - _expm1(-s)


define_slopes(_poly, _poly_slope, lambda s, epsilon: _complement(-s))
define_slopes(_poly_slope, lambda s, epsilon: -epsilon * jnp.exp(-wide(s)), lambda s, epsilon: jnp.exp(-wide(s)))

FOCAL = Modulation(_focal, _quick_focal, _quick_focal_slope)
POLY = Modulation(_poly, lambda s, epsilon, p: s + epsilon * (1 - p), lambda s, epsilon, p: (1, epsilon))
