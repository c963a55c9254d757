"""Floor 2: the surprisal -log p of a row's label, and its rules. Rows are [..., n].

With e the exponentials of a row, that of the label y, and rest the sum of all others,

    -log p_y = log(1 + rest / e_y)        log1p where the label is the top, and x_y - top taken off log(sum e) elsewhere
    p_y - 1 = -rest / (rest + e_y)

The label's own is taken out of the array of exponentials in place, and so is never added to the rest. The z-loss needs
log(sum e) itself, so for it the exponentials below the top are summed apart, and none is rounded off beside a top that
is not the label. The surprisal of such a label is not small, and does not need that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from stablelogits_jax import _mesh
from stablelogits_jax._checks import as_type
from stablelogits_jax._closed import _log1p
from stablelogits_jax._core import recomputed
from stablelogits_jax._double_float import two_sum, written
from stablelogits_jax._mesh import AxisName
from stablelogits_jax._row_exp import Unit, at_top_and_exp_in, exp_in, exp_of_top, unit
from stablelogits_jax._row_sums import sums
from stablelogits_jax._rows import _logsumexp, _softmax_slope, z_loss_of
from stablelogits_jax._stats import Stats, _shift, largest, with_stats


def _index(x: jax.Array, label: jax.Array, axis_name: AxisName) -> jax.Array:
    """The label's place in x, n if it has none: of rows that are split, one device has it."""
    n = x.shape[-1]
    own = _mesh.of_device(label, n, axis_name)
    return jnp.where((own >= 0) & (own < n), own, n)


def _is_label(x: jax.Array, index: jax.Array) -> jax.Array:
    return jax.lax.broadcasted_iota(index.dtype, x.shape, x.ndim - 1) == index[..., None]


def _in_rows(f: Callable, index: jax.Array) -> Callable:
    """f(x, index) of one row, of all: XLA knows then that no row asks for another's numbers."""
    for _ in range(index.ndim):
        f = jax.vmap(f)
    return f


def _others(x: jax.Array, index: jax.Array, of: Unit) -> jax.Array:
    """The exponentials, and 0 for the label's, which XLA:CPU sets in place, and so writes them once; others compute
    them where they are used."""

    def in_place(e: jax.Array, index: jax.Array) -> jax.Array:
        return _in_rows(lambda e, i: e.at[i].set(0, mode="drop", unique_indices=True), index)(e, index)

    def selected(e: jax.Array, index: jax.Array) -> jax.Array:
        return jnp.where(_is_label(e, index), 0, e)

    return jax.lax.platform_dependent(exp_in(x, of), index, cpu=in_place, default=selected)


def _at(x: jax.Array, label: jax.Array, axis_name: AxisName) -> jax.Array:
    """x at the label, [..., 1], NaN if that is not in [0, n)."""
    n, index = x.shape[-1], _index(x, label, axis_name)
    whole = axis_name is None
    missing = jnp.nan if whole else 0
    x = _in_rows(lambda x, i: x.at[i].get(mode="fill", fill_value=missing), index)(x, index)[..., None]
    if whole:
        return x
    is_class = (label >= 0) & (label < n * _mesh.devices(axis_name))
    return jnp.where(is_class[..., None], _mesh.over_all(x, axis_name), jnp.nan)


@partial(
    jax.tree_util.register_dataclass, data_fields=("stats", "surprisal", "miss", "chance", "inverse"), meta_fields=()
)
@dataclass(frozen=True)
class Found:
    """What one look at the rows finds: their statistics, -log p, 1 - p and p of the label, and 1 / sum e; NaN for a
    label that is no class. [..., 1] all, and all constants, of which the rules know how they move with x."""

    stats: Stats
    surprisal: jax.Array
    miss: jax.Array
    chance: jax.Array
    inverse: jax.Array

    def inner(self, slope: jax.Array, t: jax.Array) -> jax.Array:
        return self.stats.inner(slope, t)


def _sum_kept(x: jax.Array, index: jax.Array, of: Unit) -> tuple[jax.Array, ...]:
    return (sums(lambda e: e, [_others(x, index, of)]),)


def _sum_and_lower_kept(x: jax.Array, index: jax.Array, of: Unit) -> tuple[jax.Array, ...]:
    """The sum of the others, and of those below the top, whose digits the top would absorb"""

    def apart(e: jax.Array, e_top: jax.Array) -> tuple[jax.Array, jax.Array]:
        return e, jnp.where(e >= e_top, 0, e)

    return sums(apart, [_others(x, index, of)], [written(exp_of_top(of))])


def _not_kept(f: Callable, x: jax.Array, index: jax.Array, of: Unit) -> tuple[jax.Array, ...]:
    """A value alone is not worth an array of exponentials."""

    def of_others(x: jax.Array, at: jax.Array, index: jax.Array, *of: jax.Array) -> tuple[jax.Array, ...]:
        return f(x, at == index, Unit(*of))

    at = jax.lax.broadcasted_iota(index.dtype, x.shape, x.ndim - 1)
    return sums(of_others, [x, at], [index[..., None], *of], costly=True)


def _sum(x: jax.Array, index: jax.Array, of: Unit) -> tuple[jax.Array, ...]:
    return _not_kept(lambda x, own, of: (jnp.where(own, 0, exp_in(x, of)),), x, index, of)


def _sum_and_lower(x: jax.Array, index: jax.Array, of: Unit) -> tuple[jax.Array, ...]:
    """Both, from the number of tops, which takes no second exponential"""

    def apart(x: jax.Array, own: jax.Array, of: Unit) -> tuple[jax.Array, jax.Array]:
        is_top, e = at_top_and_exp_in(x, of)
        return jnp.where(own | is_top, 0, e), jnp.where(~own & is_top, jnp.ones_like(e), 0)

    lower, tops = _not_kept(apart, x, index, of)
    return lower + tops * exp_of_top(of), lower


@partial(jax.jit, static_argnames=("sums_of", "axis_name"))
def _found(x: jax.Array, label: jax.Array, sums_of: Callable, axis_name: AxisName) -> Found:
    top = largest(x, axis_name)
    of = unit(top)
    rest, *lower = _mesh.over_all(sums_of(x, _index(x, label, axis_name), of), axis_name)
    own = as_type(_at(x, label, axis_name), top.dtype)
    e_top, e = exp_of_top(of), exp_in(own, of)
    beside_top = rest - e_top
    if lower:  # exactly one other top: with more, or in a row of -inf, the difference is not `lower`
        beside_top = jnp.where(jnp.abs(beside_top - lower[0]) < 0.5 * e_top, lower[0], beside_top)
    smaller = jnp.where(e >= e_top, rest, beside_top + e) / e_top  # all but one of the tops
    stats = Stats(top, 1 + smaller, _log1p(smaller), *two_sum(rest, e), axis_name)
    shift = _shift(own, top)
    surprisal = jnp.where(shift == -jnp.inf, jnp.inf, stats.log_total - shift)
    inverse = 1 / jnp.where(stats.total == 0, jnp.inf, stats.whole_in_unit)
    return Found(stats, surprisal, rest * inverse, e * inverse, inverse)


@jax.custom_jvp
@jax.jit
def _surprisal(x: jax.Array, label: jax.Array, of: Found) -> jax.Array:
    """-log_softmax(x) at the label: +inf if its class is absent, NaN if it is not in [0, n)."""
    return of.surprisal[..., 0]


@jax.custom_jvp
@jax.jit
def _miss(x: jax.Array, label: jax.Array, of: Found) -> jax.Array:
    """p - onehot, the slope of the surprisal"""
    index = _index(x, label, of.stats.axis_name)
    return jnp.where(_is_label(x, index), -of.miss, _others(x, index, unit(of.stats.top)) * of.inverse)


@_miss.defjvp
def _miss_jvp(primals: tuple, tangents: tuple) -> tuple:
    """The slope of p, at the label too."""
    x, _, of = primals
    slope = _softmax_slope(x, of.stats, tangents[0])
    return _miss(*primals), jnp.where(jnp.isnan(of.surprisal), jnp.nan, slope)


@jax.custom_jvp
@jax.jit
def _chances(x: jax.Array, label: jax.Array, of: Found) -> jax.Array:
    """p, of the exponentials that the slope of the surprisal is made of"""
    index = _index(x, label, of.stats.axis_name)
    return jnp.where(_is_label(x, index), of.chance, _others(x, index, unit(of.stats.top)) * of.inverse)


@_chances.defjvp
def _chances_jvp(primals: tuple, tangents: tuple) -> tuple:
    x, _, of = primals
    return _chances(*primals), _softmax_slope(x, of.stats, tangents[0])


@_surprisal.defjvp
def _surprisal_jvp(primals: tuple, tangents: tuple) -> tuple:
    @recomputed
    def tangent(x: jax.Array, label: jax.Array, of: Found, x_dot: jax.Array) -> jax.Array:
        return of.inner(_miss(x, label, of), x_dot)

    return _surprisal(*primals), tangent(*primals, tangents[0])


_z_loss = z_loss_of(lambda x, label, of: _logsumexp(x, of.stats), _chances)


def _surprisal_and_z_loss(x: jax.Array, label: jax.Array, z: jax.Array, of: Found) -> tuple[jax.Array, jax.Array]:
    return _surprisal(x, label, of), _z_loss(x, z, label, of)


def _found_by(sums_of: Callable) -> Callable:
    return lambda x, label, *_, axis_name: _found(x, label, sums_of, axis_name)


surprisal = with_stats(_surprisal, _found_by(_sum), _found_by(_sum_kept))
surprisal_and_z_loss = with_stats(_surprisal_and_z_loss, _found_by(_sum_and_lower), _found_by(_sum_and_lower_kept))
