"""Floor 2: rows, their sums and the statistics that all functions along one axis are made of.

Rows are [..., n], the classes last. Three habits keep the tails, all derivatives and the compiled code right:

    log sum exp(x) = top + log1p(rest)        the top's own 1 is left out of the sum, or it would absorb the rest
    1 - p_top = sum of the other p            never by subtraction; at most one p is above 1/2
    x - top is clipped at 0, and exact        see `_shift`, and for its exponential `_exp_shift`
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from stablelogits_jax import _mesh
from stablelogits_jax._checks import as_type, compute_type
from stablelogits_jax._closed import _log1p
from stablelogits_jax._double_float import Pair, exact, fast_two_sum, opaque, plus, two_sum
from stablelogits_jax._mesh import AxisName


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


UNITS = 32, 8  # numbers that XLA:CPU computes in vectors, as many as there are; those left of them it takes one by one
SHORT = 10  # numbers, whose sum XLA:CPU writes out


def is_long(x: jax.Array) -> bool:
    return isinstance(x.shape[-1], int) and x.shape[-1] > SHORT


PARTS, PART = (8, 4, 2), 1024  # how many parts a row is cut into, and what they have at least


def _parts(x: jax.Array) -> jax.Array:
    """Long rows as [..., parts, n / parts]. Each part is summed by itself: where devices hold parts of the rows
    under plain `jit`, none asks another for what it sums, as it would for slices of the whole."""
    n = x.shape[-1]
    parts = next((d for d in PARTS if n % d == 0 and n >= d * PART), None) if isinstance(n, int) else None
    return x if parts is None else x.reshape(*x.shape[:-1], parts, n // parts)


def _sum(x: jax.Array) -> jax.Array:
    """sum x, [..., 1], the sums of parts in pairs"""
    parts = _parts(x)
    sums = _sum_in_fours(parts)
    if parts.ndim == x.ndim:
        return sums
    sums = sums[..., 0]
    while sums.shape[-1] > 1:
        pairs = sums.reshape(*sums.shape[:-1], sums.shape[-1] // 2, 2)
        sums = jax.lax.optimization_barrier(jnp.sum(pairs, -1))
    return sums


def _sum_in_fours(x: jax.Array) -> jax.Array:
    """sum x, [..., 1], four numbers at a time: the error of a sum grows with the numbers that are added one after
    another, as XLA:CPU adds those of a small array, and most of all with equal ones, which are rounded alike. A barrier
    keeps XLA from making one sum of two."""
    while is_long(x):
        quarter = -(-x.shape[-1] // 4)
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 4 * quarter - x.shape[-1])])
        x = jax.lax.optimization_barrier(jnp.sum(x.reshape(*x.shape[:-1], 4, quarter), -2))
    return jnp.sum(x, -1, keepdims=True)


def _few_sums(f: Callable, x: jax.Array) -> jax.Array:
    """Sums of parts of f(x), [..., SHORT or less], of an element-wise f: pairs of numbers, and pairs of pairs, as
    arrays, in which XLA:CPU vectorises what it does not vectorise within a sum. They have no transpose that is fast."""
    while x.shape[-1] > SHORT:
        n = x.shape[-1]
        width = next((unit * max(1, n // (8 * unit)) for unit in UNITS if n >= 2 * unit), n // 4)
        ends = range(width, n + 1, width)
        terms = [f(x[..., end - width : end]) for end in ends]
        while len(terms) > 1:
            odd = terms[len(terms) & ~1 :]
            terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)] + odd
        rest = [f(x[..., ends[-1] :])] if ends[-1] < n else []
        x, f = jax.lax.optimization_barrier(jnp.concatenate([*terms, *rest], -1)), lambda x: x
    return f(x)


def _sums(small: jax.Array, tops: jax.Array) -> tuple[Pair, jax.Array]:
    """sum small, with what each addition rounds off, and sum tops, [..., 1]."""

    def add(a: tuple, b: tuple) -> tuple:
        s = two_sum(a[0], b[0])
        return s.head, (a[1] + b[1]) + s.tail, a[2] + b[2]

    zero = jnp.zeros((), small.dtype)
    axes = (small.ndim - 1,)
    s, lost, count = jax.lax.reduce((small, jnp.zeros_like(small), tops), (zero, zero, zero), add, axes)
    return Pair(s[..., None], lost[..., None]), count[..., None]


# Statistics of a row ----------------------------------------------------------------------------------------------


@partial(
    jax.tree_util.register_dataclass, data_fields=("top", "total", "lost", "log_total"), meta_fields=("axis_name",)
)
@dataclass(frozen=True)
class Stats:
    """What is found in one look at the rows, each [..., 1] in the type that is computed in."""

    top: jax.Array  # the largest logit
    total: jax.Array  # sum exp(x - top), in [1, n], or 0 for a row of -inf
    lost: jax.Array  # what was rounded off it
    log_total: jax.Array  # its logarithm
    axis_name: AxisName  # the mesh axis that the rows are split over

    def whole(self, sums: Any) -> Any:
        """Sums over a device's part of the rows as sums over the rows."""
        return _mesh.over_all(sums, self.axis_name)

    def sum(self, x: jax.Array) -> jax.Array:
        return self.whole(_sum(x))

    def inner(self, slope: jax.Array, t: jax.Array) -> jax.Array:
        return self.whole(inner(slope, t))


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


def _exact_shift(x: jax.Array, top: jax.Array) -> Pair:
    """x - top in two parts, of which the first is 0 at the top alone, and below it where the exponential is 0, though
    finite (Knuth's two-sum). With F the largest float, a row with a top of +inf is moved by -F, so that all that is
    finite is far below it, and one with a top below -F / 2 by F, so that -inf is. Before that a 0 that no
    compiler knows takes up the multiply-add, as in `_shift`.
    """
    dtype = top.dtype
    largest = float(jnp.finfo(dtype).max)
    moved = jnp.where(top == jnp.inf, jnp.asarray(-largest, dtype), 0)
    moved = jnp.where(top < -largest / 2, jnp.asarray(largest, dtype), moved)
    zero, fence = jax.lax.optimization_barrier((jnp.zeros_like(top), moved))
    top = jnp.where(top == -jnp.inf, 0, jnp.minimum(top + fence, largest))
    far = top - jnp.maximum(2000, jnp.abs(top) * 2.0**-20)
    return two_sum(jnp.minimum(jnp.maximum((as_type(x, dtype) + zero) + fence, far), top), -top)


def _exp_shift(x: jax.Array, top: jax.Array) -> jax.Array:
    """exp(x - top) = exp(d) (1 + lost), where d is x - top rounded: that alone would be up to |d| half-ulps of it. The
    difference of 16-bit logits is hardly rounded in float32."""
    if x.dtype.itemsize == 2:
        return jnp.exp(_shift(x, top))
    d = _exact_shift(x, top)
    e = jnp.exp(d.head)
    return e + e * d.tail


def _is_top(x: jax.Array, top: jax.Array) -> jax.Array:
    return (_shift(x, top) if x.dtype.itemsize == 2 else _exact_shift(x, top).head) >= 0


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


@partial(jax.jit, static_argnames=("keep", "axis_name"))
def _stats(x: jax.Array, keep: bool, axis_name: AxisName = None) -> Stats:
    """log sum exp(x - top), with e = exp(x - top), which is 1 at the top:

    (1) log(sum e)        0 where the rest is below 6e-8
    (2) log1p(rest), rest the number of tops but one, and the sum of the smaller e: of many small ones, added to the 1,
        each would be rounded alike

    With `keep`, e is written once, for the sum and for the slope that follows; a value alone never writes it.
    """
    top = as_type(jnp.max(x, -1, keepdims=True, initial=-jnp.inf), compute_type(x.dtype))
    top = _mesh.largest_of_all(top, axis_name)
    parts = _parts(_exp_shift(x, top) if keep else x)
    of_part = top if parts.ndim == x.ndim else top[..., None]

    def e(x: jax.Array) -> jax.Array:
        return x if keep else _exp_shift(x, of_part)

    def is_top(x: jax.Array) -> jax.Array:
        return x >= 1 if keep else _is_top(x, of_part)

    def sums(f: Callable) -> jax.Array:
        y = _few_sums(f, parts) if is_long(parts) else f(parts)
        return y.reshape(*x.shape[:-1], prod(y.shape[x.ndim - 1 :]))

    small = sums(lambda x: jnp.where(is_top(x), 0, e(x)))
    tops = sums(lambda x: jnp.where(is_top(x), jnp.ones_like(x, top.dtype), 0))
    small, tops = _mesh.over_all(_sums(small, tops), axis_name)
    rest = plus(exact(tops - 1), small)
    rest, total = fast_two_sum(*rest), fast_two_sum(*plus(exact(opaque(1, top.dtype)), rest))
    log_total = _log1p(rest.head) + rest.tail / jnp.where(total.head == 0, 1, total.head)
    return Stats(top, *total, log_total, axis_name)


def not_kept(x: jax.Array, *_: jax.Array, axis_name: AxisName) -> Stats:
    return _stats(x, keep=False, axis_name=axis_name)


def kept(x: jax.Array, *_: jax.Array, axis_name: AxisName) -> Stats:
    return _stats(x, keep=True, axis_name=axis_name)


def with_stats(core: Callable, at_value: Callable = not_kept, at_slope: Callable = kept) -> Callable:
    """core(x, ..., stats) as a function of (x, ...), and of the name of a mesh axis that the rows are split over.

    The statistics are constants to the core, whose rule knows how they move with x. Where exp(x - top) is used again,
    in the value or in a slope, they keep it; for a value that is all they are for, they do not.
    """

    return lambda *args, axis_name=None: _with_stats(core, at_value, at_slope, axis_name)(*args)


@cache
def _with_stats(core: Callable, at_value: Callable, at_slope: Callable, axis_name: AxisName) -> Callable:
    @jax.custom_jvp
    def function(x: jax.Array, *args: jax.Array) -> jax.Array:
        x = _rounded(x)
        return core(x, *args, at_value(x, *args, axis_name=axis_name))

    @partial(function.defjvp, symbolic_zeros=True)
    def rule(primals: tuple, tangents: tuple) -> tuple:
        moved = [i for i, t in enumerate(tangents) if not isinstance(t, SymbolicZero)]
        x, *rest = jax.lax.stop_gradient(primals)
        of = at_slope(_rounded(x), *rest, axis_name=axis_name)

        def of_moved(*values: jax.Array) -> jax.Array:
            args: list[Any] = list(primals)
            for i, value in zip(moved, values, strict=True):
                args[i] = value
            return core(_rounded(args[0]), *args[1:], of)

        return jax.jvp(of_moved, tuple(primals[i] for i in moved), tuple(tangents[i] for i in moved))

    return function
