"""Floor 2: exponentials of a row in units of a power of two. Rows are [..., n].

With K the whole part of top / log 2, exp(x) 2^-K is below 2, 1 or more at the top, and 2^(k - K) (1 + y) with
x = k log 2 + r and 1 + y = exp(r): x itself is reduced, and nothing is rounded off a difference x - top.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from stablelogits_jax._checks import as_type
from stablelogits_jax._closed import EXP_SQUARE, LN_2_HIGH, LN_2_LOW, _horner
from stablelogits_jax._double_float import at_least, at_most, opaque
from stablelogits_jax._series import LN_2


class Unit(NamedTuple):
    """What the exponentials of a row are taken with, each [..., 1]: of d = (x - beyond) - start."""

    beyond: jax.Array
    start: jax.Array
    least: jax.Array  # the d whose 2^(k - K) is subnormal, and 0
    most: jax.Array  # that of the top
    bias: jax.Array  # of the exponent of 2^(k - K)


def unit(top: jax.Array) -> Unit:
    """Tops that k log 2 does not reach exactly are taken off x, which is exact for what is not 0 there. Under a top of
    +inf all that is finite is far below it. Under all others, `beyond` is a 0 that no compiler knows, and comes first:
    it takes up the multiply-add where x = z c is fused into what follows, as fma(z, c, 0) is the rounded x again."""
    info, dtype = jnp.finfo(top.dtype), top.dtype
    bits = jnp.dtype(f"int{info.bits}")
    largest, near = float(info.max), (info.maxexp << 1) * float(LN_2)
    none = top == -jnp.inf
    start = jnp.where((jnp.abs(top) < near) | none, 0, jnp.minimum(top, largest))
    beyond = jnp.where(top == jnp.inf, jnp.asarray(largest, dtype), 0)
    most = jnp.where(none | (top == jnp.inf), 0, top - start)
    whole = jnp.floor(most * (1 / float(LN_2)))
    least = (whole - (info.maxexp - 1)) * float(LN_2)
    bias = (info.maxexp - 1) - jnp.where(jnp.isnan(whole), 0, whole).astype(bits)
    return Unit(*jax.lax.optimization_barrier((beyond, start, least, most, bias)))


def exp_in(x: jax.Array, unit: Unit) -> jax.Array:
    """exp(x) 2^-K, at most that of the top, and 0 where 2^(k - K) is subnormal."""
    return _exp(_in(x, unit), unit)


def at_top_and_exp_in(x: jax.Array, unit: Unit) -> tuple[jax.Array, jax.Array]:
    """Whether x is a top, and `exp_in`."""
    d = _in(x, unit)
    return d >= unit.most, _exp(d, unit)


def _in(x: jax.Array, unit: Unit) -> jax.Array:
    x = as_type(x, unit.most.dtype)
    return at_most(unit.most, at_least(unit.least, (x - unit.beyond) - unit.start))


def exp_of_top(unit: Unit) -> jax.Array:
    return _exp(unit.most, unit)


def _exp(d: jax.Array, unit: Unit) -> jax.Array:
    """k is rounded, and turned into an integer, by adding a number whose last digit is 1."""
    info = jnp.finfo(d.dtype)
    ones = opaque(1.5 * 2**info.nmant, d.dtype)
    moved = d * (1 / float(LN_2)) + ones
    k = moved - ones
    r = (d - k * LN_2_HIGH) - k * LN_2_LOW
    y = r + r * r * _horner(EXP_SQUARE[d.dtype.itemsize == 8], r)
    bits = (jax.lax.bitcast_convert_type(moved, unit.bias.dtype) + unit.bias) << info.nmant
    scale = jax.lax.bitcast_convert_type(bits, d.dtype)
    return scale + scale * y
