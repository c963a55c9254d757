"""Floor 1: what makes a core: a pure function of arrays of one float type, with a rule for its derivative."""

from collections.abc import Callable
from functools import partial, wraps
from operator import mul
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from stablelogits_jax._checks import as_type, compute_type

recomputed = partial(jax.checkpoint, prevent_cse=False)  # the backward pass keeps a slope's arguments, not the slope


def core(closed: Callable | None = None, *, float32: Callable | None = None) -> Any:
    """A core for every float type, with a rule to follow: the closed form, computed in float32 for 16-bit arguments,
    whose result is float32 then; for float32 ones the kernel in double-float, if there is one."""

    def of(closed: Callable) -> Any:
        @jax.custom_jvp
        @jax.jit
        @wraps(closed)
        def f(*arguments: jax.Array) -> jax.Array:
            if float32 is not None and all(a.dtype == jnp.float32 for a in arguments):
                return float32(*arguments)
            return closed(*(wide(a) for a in arguments))

        cast(Any, f).closed = closed  # for the closed forms of other cores
        return f

    return of if closed is None else of(closed)


def wide(x: jax.Array) -> jax.Array:
    return as_type(x, compute_type(x.dtype))


def define_slopes(f: Any, *slopes: Callable, steep: bool = False) -> None:
    """The rule f_dot = sum_i slope_i(*primals) x_dot_i.

    Arguments that are not differentiated are left out, not multiplied by a zero: 0 times an infinite slope is NaN. If
    the slope in the first is `steep`, infinite for some numbers of an array, those that do not move add nothing either.
    """

    @partial(f.defjvp, symbolic_zeros=True)
    def rule(primals: tuple, tangents: tuple) -> tuple:
        y = f(*primals)
        terms = [
            (_of_steep if steep and i == 0 else mul)(as_type(x_dot, y.dtype), slope(*primals))
            for i, (slope, x_dot) in enumerate(zip(slopes, tangents, strict=True))
            if not isinstance(x_dot, SymbolicZero)
        ]
        return y, jnp.broadcast_to(sum(terms[1:], terms[0]), y.shape) if terms else jnp.zeros_like(y)


def _of_steep(dot: jax.Array, slope: jax.Array) -> jax.Array:
    """The product of a tangent and a slope that may be infinite, 0 for a tangent of 0, as all but one are when forward
    mode asks for each in turn. It is linear in the tangent, with two factors in the place of an infinity, which they
    make of all but tangents near 0."""
    return dot * _finite(slope) * _steepness(slope)


def _steepness(slope: jax.Array) -> jax.Array:
    return jnp.where(jnp.isinf(slope), 2.0 ** (jnp.finfo(slope.dtype).maxexp // 2), jnp.ones_like(slope))


@jax.custom_jvp
def _finite(slope: jax.Array) -> jax.Array:
    return jnp.nan_to_num(slope, nan=jnp.nan)


@_finite.defjvp
def _finite_jvp(primals: tuple, tangents: tuple) -> tuple:
    return _finite(*primals), tangents[0] / _steepness(*primals)


def jvp_of_moved(f: Callable, primals: tuple, tangents: tuple) -> tuple:
    """`jax.jvp`, in which the arguments that do not move are constants."""
    at = [i for i, t in enumerate(tangents) if not isinstance(t, SymbolicZero)]

    def of_moved(*values: jax.Array) -> jax.Array:
        given = dict(zip(at, values, strict=True))
        return f(*(given.get(i, x) for i, x in enumerate(primals)))

    return jax.jvp(of_moved, [primals[i] for i in at], [tangents[i] for i in at])


def moved(like: jax.Array, *terms: tuple[Any, Callable]) -> jax.Array:
    """The sum of f(tangent) over pairs of a tangent and f, in the same way: how a number moves that is `like`."""
    return sum((f(dot) for dot, f in terms if not isinstance(dot, SymbolicZero)), jnp.zeros_like(like))


# Masks ------------------------------------------------------------------------------------------------------------


@jax.custom_jvp
def masked(x: jax.Array, keep: jax.Array, fill: jax.Array | float) -> jax.Array:
    """x where it is kept, else a constant. The backward pass holds the mask alone, no zeros beside it."""
    return jnp.where(keep, x, fill)


@masked.defjvp
def masked_jvp(primals: tuple, tangents: tuple) -> tuple:
    tangent = recomputed(lambda keep, x_dot: jnp.where(keep, x_dot, 0))
    return masked(*primals), tangent(primals[1], tangents[0])
