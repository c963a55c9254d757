"""Floor 2: rows, their sums and the statistics that all functions along one axis are made of.

Rows are [..., n], the classes last. Three habits keep the tails, all derivatives and the compiled code right:

    log sum exp(x) = top + log1p(rest)        the top's own 1 is left out of the sum, or it would absorb the rest
    1 - p_top = sum of the other p            never by subtraction; at most one p is above 1/2
    x - top is clipped at 0, and exact        see `_shift`, and for its exponential `_exp_shift`
"""

from collections.abc import Callable
from functools import partial
from math import isqrt, prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from stablelogits_jax._checks import as_type, compute_type
from stablelogits_jax._closed import _log1p


def flatten(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """[..., n]: the class axes last, as one."""
    x = jnp.moveaxis(x, axes, range(-len(axes), 0))
    batch = x.shape[: x.ndim - len(axes)]
    return x.reshape(*batch, prod(x.shape[len(batch) :]))


def unflatten(x: jax.Array, axes: tuple[int, ...], shape: tuple[int, ...]) -> jax.Array:
    """The inverse of `flatten`: `x` in the original `shape`."""
    x = x.reshape(*x.shape[:-1], *(shape[a] for a in axes))
    return jnp.moveaxis(x, range(-len(axes), 0), axes)


def inner(slope: jax.Array, t: jax.Array) -> jax.Array:
    return _sum(slope * as_type(t, slope.dtype))[..., 0]


FEW = 10  # numbers, of which XLA:CPU vectorises no sum


def _sum(x: jax.Array) -> jax.Array:
    """sum x, [..., 1], four numbers at a time: the error of a sum grows with the numbers that are added one after
    another, as XLA:CPU adds those of a small array, and most of all with equal ones, which are rounded alike. A barrier
    keeps XLA from making one sum of two."""
    while isinstance(x.shape[-1], int) and x.shape[-1] > FEW:
        quarter = -(-x.shape[-1] // 4)
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 4 * quarter - x.shape[-1])])
        x = jax.lax.optimization_barrier(jnp.sum(x.reshape(*x.shape[:-1], 4, quarter), -2))
    return jnp.sum(x, -1, keepdims=True)


# Statistics of a row ----------------------------------------------------------------------------------------------


class Stats(NamedTuple):
    """What is found in one look at the rows, each [..., 1] in the type that is computed in."""

    top: jax.Array  # the largest logit
    total: jax.Array  # sum exp(x - top), in [1, n], or 0 for a row of -inf
    log_total: jax.Array  # its logarithm


def _fenced(x: jax.Array, top: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x, its top and 0, such that min(x - top, 0) is as `_shift` says."""
    dtype = top.dtype
    largest = float(jnp.finfo(dtype).max)
    fence = jax.lax.optimization_barrier(jnp.where(top == jnp.inf, jnp.asarray(-largest, dtype), 0))
    return as_type(x, dtype) + fence, jnp.clip(top, -largest, largest), fence * 0


def _shift(x: jax.Array, top: jax.Array) -> jax.Array:
    """x - top, in [-inf, 0], under every way of compiling it. With F the largest float:

    (1) x - top        NaN for infinite tops: top is clipped to +-F, so a row of -inf stays -inf
    (2) (x + fence) - top, the fence -F under a top of +inf: +inf gives 0 and every finite x at most -F. Under all other
        tops it is a zero that no compiler knows, nor adds to a known top. It takes up the multiply-add when x = z c is
        fused into this line: fma(z, c, 0) is the rounded x again, where fma(z, c, -top) is not 0 at the top, and
        overflows exp from 2^31
    (3) clipped at 0 (a zero of the row: XLA:CPU vectorises no sum behind a constant one), should x have been rounded
        otherwise here than under the maximum
    """
    x, top, zero = _fenced(x, top)
    return jnp.minimum(x - top, zero)


def _exp_shift(x: jax.Array, top: jax.Array) -> jax.Array:
    """exp(x - top) = exp(d) (1 + lost), where d = x - top rounded, by up to |d| half-ulps of the exponential.

    What is lost is found by taking the larger in size of x and -top from d first, which is the smaller, as x <= top
    (Dekker's two-sum). All is clipped, to be
    finite where exp(d) is 0. The difference of 16-bit logits is hardly rounded in float32.
    """
    if x.dtype.itemsize == 2:
        return jnp.exp(_shift(x, top))
    x, top, zero = _fenced(x, top)
    large = zero + float(jnp.finfo(top.dtype).max) / 4
    d = jnp.minimum(x - top, zero)
    e, d = jnp.exp(d), jnp.maximum(d, -large)
    x, minus_top = jnp.clip(x, -large, large), jnp.clip(-top, -large, large)
    return e + e * (jnp.maximum(x, minus_top) - (d - jnp.minimum(x, minus_top)))


def _above_one(e: jax.Array) -> jax.Array:
    """sum e - 1 of a row that has a 1, by the sum of the smaller ones and the count of the others: each of many small
    ones, added to the 1, would be rounded alike. Few are summed in one loop, which is faster."""
    small, tops = jnp.where(e >= 1, 0, e), jnp.where(e >= 1, jnp.ones_like(e), 0)
    if not isinstance(e.shape[-1], int) or e.shape[-1] > FEW:
        return (jnp.sum(tops, -1, keepdims=True) - 1) + _sum(small)
    zero = jnp.zeros((), e.dtype)
    rest, count = jax.lax.reduce((small, tops), (zero, zero), lambda a, b: (a[0] + b[0], a[1] + b[1]), (e.ndim - 1,))
    return ((count - 1) + rest)[..., None]


def _rounded(x: jax.Array) -> jax.Array:
    """x. XLA may leave out the rounding of a 16-bit product that it fuses into one use of x and not into another, and
    the top would not be the largest of what is summed; it stores what is behind a barrier."""
    return _stored(x) if x.dtype.itemsize == 2 else x


@jax.custom_jvp
def _stored(x: jax.Array) -> jax.Array:
    return jax.lax.optimization_barrier(x)


@_stored.defjvp
def _stored_jvp(primals: tuple, tangents: tuple) -> tuple:
    return _stored(*primals), tangents[0]


LARGE = 4096  # numbers, of which XLA:CPU adds several at once, in a row alone, too


def _parts(n: int) -> int:
    """Into how many parts a row is summed, so that the one that holds the top can be summed again without it."""
    if not isinstance(n, int):  # a symbol of jax.export
        return 1
    most = max(1, min(isqrt(n), n // 100))  # XLA:CPU is slow on shorter parts
    return next(d for d in range(most, 0, -1) if n % d == 0)


def _compensated_sum(parts: jax.Array) -> jax.Array:
    """[..., q, 1] to [..., 1] with what each addition rounds off (Knuth's two-sum). It has no derivative."""

    def add(a: tuple, b: tuple) -> tuple:
        s = a[0] + b[0]
        t = s - a[0]
        return s, (a[1] + b[1]) + ((a[0] - (s - t)) + (b[0] - t))

    zero = jnp.zeros((), parts.dtype)
    return sum(jax.lax.reduce((parts, jnp.zeros_like(parts)), (zero, zero), add, (parts.ndim - 2,)), zero)


@partial(jax.jit, static_argnames="keep")
def _stats(x: jax.Array, keep: bool) -> Stats:
    """log sum exp(x - top), with e = exp(x - top), which is 1 at the top:

    (1) log(sum e)        0 where the rest is below 6e-8
    (2) log1p(rest), rest the sum of all e but one of those that are 1, of parts of the row but for the part it is in

    With `keep`, e is written once, for the sum and for the slope that follows; a value alone never writes it.
    """
    top = as_type(jnp.max(x, -1, keepdims=True, initial=-jnp.inf), compute_type(x.dtype))
    q = _parts(x.shape[-1])
    if q == 1:
        rest = _above_one(_exp_shift(x, top))
    else:
        parted = (*x.shape[:-1], q, x.shape[-1] // q)
        # XLA:CPU writes what is reshaped before it is summed
        e = _exp_shift(x, top).reshape(parted) if keep else _exp_shift(x.reshape(parted), top[..., None])
        parts = _sum(e) if x.shape[-1] < LARGE else jnp.sum(e, -1, keepdims=True)
        holder = jnp.argmax(parts, -2, keepdims=True)
        held = jnp.take_along_axis(x.reshape(parted), holder, -2)[..., 0, :]
        holds = jax.lax.broadcasted_iota(holder.dtype, parts.shape, parts.ndim - 2) == holder
        rest = _above_one(_exp_shift(held, top)) + _compensated_sum(jnp.where(holds, 0, parts))
    return Stats(top, 1 + rest, _log1p(rest))


def with_stats(core: Callable, keep: bool = False) -> Callable:
    """core(x, ..., stats) as a function of (x, ...).

    The statistics are constants to the core, whose rule knows how they move with x. Where exp(x - top) is used again,
    in the value (`keep`) or in a slope, they keep it; for a value that is all they are for, they do not.
    """

    @jax.custom_jvp
    def function(x: jax.Array, *args: jax.Array) -> jax.Array:
        x = _rounded(x)
        return core(x, *args, _stats(x, keep))

    @partial(function.defjvp, symbolic_zeros=True)
    def rule(primals: tuple, tangents: tuple) -> tuple:
        moved = [i for i, t in enumerate(tangents) if not isinstance(t, SymbolicZero)]
        of = _stats(jax.lax.stop_gradient(_rounded(primals[0])), keep=True)

        def of_moved(*values: jax.Array) -> jax.Array:
            args: list[Any] = list(primals)
            for i, value in zip(moved, values, strict=True):
                args[i] = value
            return core(_rounded(args[0]), *args[1:], of)

        return jax.jvp(of_moved, tuple(primals[i] for i in moved), tuple(tangents[i] for i in moved))

    return function
