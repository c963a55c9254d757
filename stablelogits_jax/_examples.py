"""Floor 3: what the losses on K logits share: examples as rows, their masks, labels, class weights and smoothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from stablelogits_jax import _checks, _mesh, _stats
from stablelogits_jax._bivariate import _soft_cap, _times
from stablelogits_jax._checks import Axis
from stablelogits_jax._core import core, define_slopes, masked, recomputed
from stablelogits_jax._mesh import AxisName


class Examples(NamedTuple):
    """Logits as rows [..., n]. A masked class is -inf. The logits of an example that does not count, ignored or without
    a class, are 0, so that nothing they hold reaches a gradient of any order."""

    function: str
    x: jax.Array
    shape: tuple[int, ...]  # of the logits as they came
    axes: tuple[int, ...]
    mask: jax.Array | None  # of the classes
    counted: jax.Array | None  # the examples that count
    axis_name: AxisName  # the mesh axis that the classes are split over


def examples(
    function: str,
    logits: ArrayLike,
    axis: Axis,
    where: ArrayLike | None,
    ignored: jax.Array | None = None,
    axis_name: AxisName = None,
) -> Examples:
    (x,), _ = _checks.floating(function, logits=logits)
    _checks.mapped(function, axis_name)
    shape, axes = x.shape, _checks.axes(function, axis, x.ndim)
    _checks.some_classes(function, shape, axes)
    mask = _checks.mask(function, where, shape, axes)
    x = _stats.flatten(x, axes)
    counted = None if ignored is None else ~ignored
    if mask is not None:
        mask = _stats.flatten(mask, axes)
        some = _mesh.any_of_all(jnp.any(mask, -1), axis_name)
        counted = some if counted is None else counted & some
        fill = jnp.where(counted, jnp.asarray(-jnp.inf, x.dtype), 0)[..., None]
        x = masked(x, mask & counted[..., None], fill)
    elif counted is not None:
        x = masked(x, counted[..., None], 0)
    return Examples(function, x, shape, axes, mask, counted, axis_name)


def total(
    of: Examples, loss: Callable[..., jax.Array], z_loss: ArrayLike = 0.0, soft_cap: ArrayLike | None = None
) -> jax.Array:
    """loss(x) of the capped logits, or loss(x, z) with their z-loss, and 0 for the examples that do not count."""
    z = () if _checks.is_number(z_loss, 0) else (option(of, "z_loss", z_loss),)
    if soft_cap is None:
        y = loss(of.x, *z)
    else:
        cap = option(of, "soft_cap", soft_cap, positive=True)[..., None]
        y = recomputed(lambda x, cap: loss(_soft_cap(x, cap), *z))(of.x, cap)
    return y if of.counted is None else masked(y, of.counted, 0)


def option(of: Examples, name: str, value: ArrayLike, **kind: Any) -> jax.Array:
    """A numeric option, one for all examples or for each; of those that do not count it reaches nothing."""
    batch = of.x.shape[:-1]
    given = _checks.option(of.function, name, value, batch, _checks.compute_type(of.x.dtype), **kind)
    return given if of.counted is None else masked(jnp.broadcast_to(given, batch), of.counted, 1)


# Shares -----------------------------------------------------------------------------------------------------------


def shares(of: Examples, labels: ArrayLike, label_smoothing: ArrayLike, weights: ArrayLike | None) -> jax.Array:
    """The (smoothed, weighted) labels beside the rows. A share of a masked class is lost, as a masked label is: it is 1
    there; what else a masked label holds reaches nothing."""
    name, x, shape, axes = of.function, of.x, of.shape, of.axes
    labels = _checks.as_array(name, "labels", labels)
    form = f"{name}_with_integer_labels" if name.startswith("softmax") else "jax.nn.one_hot"
    hint = f"; integers that name classes go to {form}" if jnp.issubdtype(labels.dtype, jnp.integer) else ""
    y = _checks.real(name, "labels", labels, _checks.compute_type(x.dtype))
    if hint:  # one number for each example names a class
        _checks.require(labels.ndim == len(shape), f"{name}: labels must have {len(shape)} axes, got {y.shape}{hint}")
    y = _checks.beside(name, "labels", y, shape, hint)
    if hint:
        given, classes = (tuple(sizes[a] for a in axes) for sizes in (y.shape, shape))
        _checks.require_shape(name, "labels along the classes", given, classes, hint)
    y = jnp.broadcast_to(y, tuple(n if a in axes else m for a, (n, m) in enumerate(zip(shape, y.shape, strict=True))))
    y = _stats.flatten(y, axes)
    lost = None
    if of.mask is not None:
        lost, y = (y > 0) & ~of.mask, masked(jnp.broadcast_to(y, x.shape), of.mask, 0)
    if not _checks.is_number(label_smoothing, 0):
        s = option(of, "label_smoothing", label_smoothing, high=1)[..., None]
        y = mixed_labels(y, s, uniform(x, of.mask, of.axis_name))
    if weights is not None:
        y = _times(_beside_rows(of, _class_weights(of, weights)), y)
    return y if lost is None else masked(y, ~lost, 1)


@core
def mixed_labels(y: jax.Array, s: jax.Array, u: jax.Array) -> jax.Array:
    """(1 - s) y + s u, of one slope in s: of two, one of 0 beside an infinite loss would be NaN"""
    return (1 - s) * y + s * u


define_slopes(mixed_labels, lambda y, s, u: 1 - s, lambda y, s, u: u - y, lambda y, s, u: s)


def _class_weights(of: Examples, weights: ArrayLike) -> jax.Array:
    """Weights of the classes, [n], in the type that is computed in"""
    w = _checks.weights(of.function, weights, _checks.compute_type(of.x.dtype))
    _checks.require_shape(of.function, "weights", w.shape, tuple(of.shape[a] for a in of.axes))
    return w.reshape(-1)


def _beside_rows(of: Examples, class_weights: jax.Array) -> jax.Array:
    """Class weights beside the rows; 0 for masked classes."""
    w = class_weights.reshape(*(1,) * (of.x.ndim - 1), -1)
    return w if of.mask is None else masked(jnp.broadcast_to(w, of.x.shape), of.mask, 0)


def uniform(x: jax.Array, mask: jax.Array | None, axis_name: AxisName = None) -> jax.Array:
    """1 / K for each kept class, [..., n], or [1, ..., n] where all rows are alike."""
    dtype = _checks.compute_type(x.dtype)
    if mask is None:
        share = 1 / (x.shape[-1] * _mesh.devices(axis_name))
        return jnp.full((*(1,) * (x.ndim - 1), x.shape[-1]), share, dtype)
    kept = _mesh.over_all(jnp.sum(mask, -1, keepdims=True), axis_name).astype(dtype)
    return jnp.where(mask, 1 / jnp.maximum(kept, 1), 0)


# Integer labels ---------------------------------------------------------------------------------------------------


def labelled(
    function: str,
    logits: ArrayLike,
    labels: ArrayLike,
    axis: Axis,
    where: ArrayLike | None,
    ignore_index: int | None,
    axis_name: AxisName = None,
) -> tuple[Examples, jax.Array]:
    """The examples, and their integer labels: 0 for those that do not count."""
    (array,), _ = _checks.floating(function, logits=logits)
    axes = _checks.axes(function, axis, array.ndim)
    batch = tuple(n for a, n in enumerate(array.shape) if a not in axes)
    given, labels = labels, _checks.integer(function, "labels", labels, batch)
    of = examples(function, array, axis, where, _checks.ignored(function, given, ignore_index), axis_name)
    return of, labels if of.counted is None else jnp.where(of.counted, labels, 0)


def smoothed(
    of: Examples,
    labels: jax.Array,
    hard: Callable[..., tuple[jax.Array, jax.Array] | jax.Array],
    soft: Callable[[jax.Array, jax.Array], jax.Array],
    label_smoothing: ArrayLike,
    weights: ArrayLike | None,
) -> Callable[..., jax.Array]:
    """(1 - s) w hard(x, label) + soft(x, s w / K), without a one-hot array; of hard(x, label, z) the second array, the
    z-loss, is added. An infinite loss is multiplied once, by all of its factors: where they are 0 it is absent, in
    slopes too. That of a label on a masked class, which is lost, is multiplied by 1, as in `shares`."""
    w = None if weights is None else _class_weights(of, weights)

    def index() -> jax.Array:
        own = _mesh.of_device(labels, of.x.shape[-1], of.axis_name)
        return jnp.where(own < 0, of.x.shape[-1], own)

    def unless_lost(factor: jax.Array) -> jax.Array:
        """1 where the label is a masked class."""
        if of.mask is None:
            return factor
        kept = jnp.take_along_axis(of.mask, index()[..., None], -1, mode="fill", fill_value=True)[..., 0]
        return masked(jnp.broadcast_to(factor, kept.shape), ~_mesh.any_of_all(~kept, of.axis_name), 1)

    of_label = None
    if w is not None:
        missing = jnp.nan if of.axis_name is None else 0
        of_label = jnp.take(w, index(), mode="fill", fill_value=missing)
        of_label = unless_lost(_mesh.over_all(of_label, of.axis_name))

    def without_z(x: jax.Array, y: jax.Array) -> jax.Array:
        if _checks.is_number(label_smoothing, 0):
            return y if of_label is None else _times(of_label, y)
        s = option(of, "label_smoothing", label_smoothing, high=1)
        kept = unless_lost(1 - s)
        kept = kept if of_label is None else _times(kept, of_label)
        share = uniform(x, of.mask, of.axis_name)
        share = share if w is None else _times(_beside_rows(of, w), share)
        return _times(kept, y) + soft(x, _times(s[..., None], share))

    def loss(x: jax.Array, *z: jax.Array) -> jax.Array:
        y, *of_z = jax.tree.leaves(hard(x, labels, *z))
        return sum(of_z, without_z(x, y))

    return loss
