"""Floor 2: rows, their sums and the statistics that all functions along one axis are made of.

Rows are [..., n], the classes last. Three habits keep the tails, all derivatives and the compiled code right:

    log sum exp(x) = top + log1p(rest)        the top's own 1 is left out of the sum, or it would absorb the rest
    1 - p_top = sum of the other p            never by subtraction; at most one p is above 1/2
    x - top is clipped at 0        see `_shift`; no exponential is taken of it, but of x in a unit, see `_row_exp.py`
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from stablelogits_jax import _mesh
from stablelogits_jax._checks import as_type, compute_type
from stablelogits_jax._closed import _log1p
from stablelogits_jax._core import jvp_of_moved
from stablelogits_jax._double_float import two_sum, written
from stablelogits_jax._mesh import AxisName
from stablelogits_jax._row_exp import Unit, at_top_and_exp_in, exp_in, exp_of_top, unit
from stablelogits_jax._row_sums import inner, row_sum, sums


def flatten(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """[..., n]: the class axes last, as one."""
    x = jnp.moveaxis(x, axes, range(-len(axes), 0))
    batch = x.shape[: x.ndim - len(axes)]
    return x.reshape(*batch, prod(x.shape[len(batch) :]))


def unflatten(x: jax.Array, axes: tuple[int, ...], shape: tuple[int, ...]) -> jax.Array:
    """The inverse of `flatten`: `x` in the original `shape`."""
    x = x.reshape(*x.shape[:-1], *(shape[a] for a in axes))
    return jnp.moveaxis(x, range(-len(axes), 0), axes)


# Statistics of a row ----------------------------------------------------------------------------------------------


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("top", "total", "log_total", "whole_in_unit", "lost"),
    meta_fields=("axis_name",),
)
@dataclass(frozen=True)
class Stats:
    """What is found in one look at the rows, each [..., 1] in the type that is computed in."""

    top: jax.Array  # the largest logit
    total: jax.Array  # sum exp(x - top), in [1, n], or 0 for a row of -inf
    log_total: jax.Array  # its logarithm
    whole_in_unit: jax.Array  # the sum of the exponentials in the row's unit
    lost: jax.Array  # what was rounded off that
    axis_name: AxisName  # the mesh axis that the rows are split over

    @property
    def divisor(self) -> jax.Array:
        """The sum in the row's unit, and 1 for a row of -inf."""
        return jnp.where(self.total == 0, 1, self.whole_in_unit)

    @property
    def finite_log_total(self) -> jax.Array:
        """log_total, and 0 for a row of -inf."""
        return jnp.where(self.total == 0, 0, self.log_total)

    def whole(self, sums: Any) -> Any:
        """Sums over a device's part of the rows as sums over the rows."""
        return _mesh.over_all(sums, self.axis_name)

    def sum(self, x: jax.Array) -> jax.Array:
        return self.whole(row_sum(x))

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


def largest(x: jax.Array, axis_name: AxisName = None) -> jax.Array:
    """The top of each row, [..., 1], in the type that is computed in; -inf of no classes."""
    top = jnp.max(x, -1, keepdims=True, initial=-jnp.inf)
    return _mesh.largest_of_all(as_type(top, compute_type(x.dtype)), axis_name)


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


def exponentials(x: jax.Array, top: jax.Array) -> jax.Array:
    """exp(x) in the row's unit, which XLA:CPU writes once for all that is made of them."""
    return written(exp_in(x, unit(top)))


@partial(jax.jit, static_argnames=("keep", "axis_name"))
def _stats(x: jax.Array, keep: bool, axis_name: AxisName = None) -> Stats:
    """log sum exp(x - top), with e = exp(x - top), which is 1 at the top:

    (1) log(sum e)        0 where the rest is below 6e-8
    (2) log1p(rest), rest the number of tops but one, and the sum of the smaller e: of many small ones, added to the 1,
        each would be rounded alike

    With `keep`, e is written once, for the sum and for the slope that follows; a value alone never writes it.
    """
    top = largest(x, axis_name)
    of = unit(top)
    e_top = exp_of_top(of)

    def of_kept(e: jax.Array, e_top: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.where(e >= e_top, 0, e), jnp.where(e >= e_top, jnp.ones_like(e), 0)

    def of_logits(x: jax.Array, *numbers: jax.Array) -> tuple[jax.Array, jax.Array]:
        is_top, e = at_top_and_exp_in(x, Unit(*numbers))
        return jnp.where(is_top, 0, e), jnp.where(is_top, jnp.ones_like(e), 0)

    of_device = sums(of_kept, [exponentials(x, top)], [written(e_top)]) if keep else sums(of_logits, [x], of, True)
    smaller, tops = _mesh.over_all(of_device, axis_name)
    rest = (tops - 1) + smaller / e_top
    return Stats(top, 1 + rest, _log1p(rest), *two_sum(tops * e_top, smaller), axis_name)


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
        x, *rest = jax.lax.stop_gradient(primals)
        of = at_slope(_rounded(x), *rest, axis_name=axis_name)
        return jvp_of_moved(lambda x, *args: core(_rounded(x), *args, of), primals, tangents)

    return function
