"""Floor 2: the cross entropy of rows of logits with labels, which are shares of the classes, and its rules.

With Y the sum of the labels y, and p the softmax, the slope is Y p - y. A hot class, of p > 1/2, of which a row has one
at most, is left out of all sums: its own slope is (sum of the other y) - Y (1 - p), with 1 - p the sum of the other p.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from stablelogits_jax._core import moved, recomputed
from stablelogits_jax._double_float import written
from stablelogits_jax._mesh import AxisName
from stablelogits_jax._row_exp import exp_of_top, unit
from stablelogits_jax._row_sums import sums
from stablelogits_jax._rows import _log_softmax, _softmax, _softmax_slope, _z_loss, inverse_of_whole
from stablelogits_jax._stats import Stats, _shift, exponentials, kept, not_kept, with_stats


@partial(jax.tree_util.register_dataclass, data_fields=("stats", "hot", "inverse", "more", "miss"), meta_fields=())
@dataclass(frozen=True)
class Found:
    """What one look at the rows finds, [..., 1] all: their statistics, the exponential from which on a class is hot,
    1 / sum e in two parts, and 1 - p of the hot class."""

    stats: Stats
    hot: Any = None
    inverse: Any = None
    more: Any = None
    miss: Any = None


def found_for_value(x: jax.Array, *_: jax.Array, axis_name: AxisName) -> Found:
    return Found(not_kept(x, axis_name=axis_name))


@partial(jax.jit, static_argnames="axis_name")
def found(x: jax.Array, *_: jax.Array, axis_name: AxisName) -> Found:
    """Of the whole one top is left out: 0 where there is none."""
    stats = kept(x, axis_name=axis_name)
    e_top = exp_of_top(unit(stats.top))
    hot = jnp.where(stats.total < 2, e_top, jnp.inf)
    inverse, more = inverse_of_whole(stats)
    miss = ((stats.whole_in_unit - e_top) + stats.lost) * inverse
    return Found(stats, written(hot), inverse, written(more), miss)


def _share(e: jax.Array, of: Found) -> jax.Array:
    """e / sum e, and 1 / 2 of two alike. The sum is rounded before anything is subtracted from it."""
    return e * of.inverse + e * of.more


def chances(x: jax.Array, of: Found) -> jax.Array:
    """p"""
    return _softmax(x, of.stats) if of.inverse is None else exponentials(x, of.stats.top) * of.inverse


@jax.custom_jvp
@jax.jit
def _cross_entropy(x: jax.Array, y: jax.Array, of: Found) -> jax.Array:
    """-sum y log_softmax(x)

    A label's share of an absent class is lost: +inf, and in a row of -inf for every label.
    """

    def lost(x: jax.Array, y: jax.Array, top: jax.Array, log_total: jax.Array) -> jax.Array:
        return jnp.where(y == 0, 0, y * (log_total - _shift(x, top)))

    stats = of.stats
    log_total = stats.finite_log_total
    loss = stats.whole(sums(lost, [x, y], [stats.top, log_total]))
    return jnp.where(jnp.isnan(log_total), log_total, loss)[..., 0]


@jax.custom_jvp
@jax.jit
def _excess(x: jax.Array, y: jax.Array, of: Found) -> jax.Array:
    """Y p - y"""

    def without_hot(e: jax.Array, y: jax.Array, hot: jax.Array) -> tuple[jax.Array, jax.Array]:
        return y, jnp.where(e >= hot, 0, y)

    e = exponentials(x, of.stats.top)
    all_y, other_y = of.stats.whole(sums(without_hot, [e, y], [of.hot]))
    g = jnp.where(e >= of.hot, other_y - all_y * of.miss, all_y * _share(e, of) - y)
    return jnp.where(of.stats.total == 0, 0, g)


def linear_excess(x: jax.Array, y: jax.Array, stats: Stats) -> jax.Array:
    """The same of labels that are tangents: of sums that have a transpose, and of p by its own rule, so that no number
    here is taken for a constant. At the hot class it is minus the sum of the others."""
    p = _softmax(x, stats)
    hot = p > 0.5
    g = jnp.where(hot, 0, stats.whole(jnp.sum(y, -1, keepdims=True)) * p - y)
    g = jnp.where(hot, -stats.whole(jnp.sum(g, -1, keepdims=True)), g)
    return jnp.where(stats.total == 0, 0, g)


@partial(_excess.defjvp, symbolic_zeros=True)
def _excess_jvp(primals: tuple, tangents: tuple) -> tuple:
    """Y times the slope of p in x; linear in y."""
    x, y, of = primals
    x_dot, y_dot, _ = tangents
    g = _excess(x, y, of)
    by_logits = x_dot, lambda dot: _softmax_slope(x, of.stats, dot, of.stats.sum(y))
    by_labels = y_dot, lambda dot: recomputed(linear_excess)(x, dot, of.stats)
    return g, moved(g, by_logits, by_labels)


@partial(_cross_entropy.defjvp, symbolic_zeros=True)
def _cross_entropy_jvp(primals: tuple, tangents: tuple) -> tuple:
    """The slope in y is -log_softmax(x), and 0 for an absent class without a share."""
    x, y, of = primals
    x_dot, y_dot, _ = tangents

    @recomputed
    def in_logits(x: jax.Array, y: jax.Array, of: Found, x_dot: jax.Array) -> jax.Array:
        return of.stats.inner(_excess(x, y, of), x_dot)

    @recomputed
    def in_labels(x: jax.Array, y: jax.Array, of: Found, y_dot: jax.Array) -> jax.Array:
        log_p = _log_softmax(x, of.stats)
        return of.stats.inner(jnp.where((y == 0) & (log_p == -jnp.inf), 0, -log_p), y_dot)

    loss = _cross_entropy(*primals)
    return loss, moved(loss, (x_dot, partial(in_logits, x, y, of)), (y_dot, partial(in_labels, x, y, of)))


def _cross_entropy_and_z_loss(x: jax.Array, y: jax.Array, z: jax.Array, of: Found) -> tuple[jax.Array, jax.Array]:
    return _cross_entropy(x, y, of), _z_loss(x, z, of.stats)


cross_entropy = with_stats(_cross_entropy, found_for_value, found)
cross_entropy_and_z_loss = with_stats(_cross_entropy_and_z_loss, found_for_value, found)
