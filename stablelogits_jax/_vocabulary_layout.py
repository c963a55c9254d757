"""Floor 4: what is given to the losses on hidden @ kernel, checked and laid out in blocks of tokens and tiles."""

from __future__ import annotations

import operator
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from stablelogits_jax import _checks, _mesh
from stablelogits_jax._core import masked
from stablelogits_jax._mesh import AxisName
from stablelogits_jax._vocabulary_sum import Terms
from stablelogits_jax._vocabulary_tiles import Head, Plan

UNIT = 128  # tokens and classes of the smallest tile: what a matrix unit takes at once
COLUMNS = 4 * UNIT  # below which products are slow
LEAST, MOST = 2**24, 2**26  # bytes of a tile's logits, between which they are a 64th of all
SKIPPED = 1024  # tokens of a block that is left out if all of them are


class Layout(NamedTuple):
    """The arguments in blocks of tokens, [B, t]. Of a token that does not count hidden is 0, the label, and what
    multiplies the terms of its loss, which may be infinite where the bias is."""

    function: str
    plan: Plan
    head: Head
    labels: jax.Array
    label_weight: jax.Array | None
    counted: jax.Array | None
    shape: tuple[int, ...]  # of the labels as they came

    def blocks(self, x: jax.Array) -> jax.Array:
        return _blocks(x, self.shape, self.labels.shape)

    def some(self) -> jax.Array | None:
        """The blocks in which a token counts, if any may be without."""
        return None if self.counted is None else jnp.any(self.counted, -1)

    def as_given(self, x: jax.Array) -> jax.Array:
        """A number for each token as they came, 0 for those that do not count."""
        x = x if self.counted is None else masked(x, self.counted, 0)
        return x.reshape(-1)[: prod(self.shape)].reshape(self.shape)

    def option(self, name: str, value: ArrayLike, **kind: Any) -> jax.Array:
        """A numeric option, one for all tokens or for each; of those that do not count it reaches nothing."""
        dtype = _checks.compute_type(self.head.hidden.dtype)
        given = _checks.option(self.function, name, value, self.shape, dtype, **kind)
        given = self.blocks(jnp.broadcast_to(given, self.shape))
        return given if self.counted is None else masked(given, self.counted, 0)

    def terms(self, label_smoothing: ArrayLike, z_loss: ArrayLike) -> Terms:
        smoothing = None if self.head.shares is None else self.option("label_smoothing", label_smoothing, high=1)
        return Terms(
            self.label_weight, smoothing, None if _checks.is_number(z_loss, 0) else self.option("z_loss", z_loss)
        )


def _blocks(x: jax.Array, shape: tuple[int, ...], blocks: tuple[int, ...]) -> jax.Array:
    """x [*shape, ...] as [B, t, ...], with zeros for the tokens that the last block lacks."""
    rest = x.shape[len(shape) :]
    x = x.reshape(prod(shape), *rest)
    x = jnp.pad(x, [(0, prod(blocks) - len(x))] + [(0, 0)] * len(rest))
    return x.reshape(*blocks, *rest)


def _bytes(function: str, memory_limit: Any) -> int | None:
    try:
        return None if memory_limit is None else operator.index(memory_limit)
    except TypeError:
        raise TypeError(f"{function}: memory_limit must be an integer, got {memory_limit!r}") from None


def _enough(function: str, memory_limit: int | None, least: int, what: str) -> None:
    _checks.require(
        memory_limit is None or memory_limit >= least,
        f"{function}: memory_limit must be at least {least} bytes, the logits of {what}, got {memory_limit}",
    )


def tile(function: str, tokens: int, classes: int, itemsize: int, limit: int | None, skip: bool) -> tuple[int, int]:
    """Tokens and classes of a tile, whose logits take a 64th of what all would, or what the caller allows: all tokens,
    as each tile's columns of the kernel are then read once, unless that leaves few columns."""
    t, c = min(tokens, UNIT), min(classes, UNIT)
    _enough(function, limit, t * c * itemsize, f"{t} tokens and {c} classes")
    room = (min(max(tokens * classes * itemsize // 64, LEAST), MOST) if limit is None else limit) // itemsize
    most = room // min(classes, COLUMNS) if room >= t * COLUMNS else room // c
    t = max(t, min(most, SKIPPED if skip else most))
    return _even(tokens, t), min(classes, max(room // t // UNIT * UNIT, c))


def rows(function: str, tokens: int, classes: int, itemsize: int, limit: int | None) -> tuple[int, int]:
    """Tokens of which all logits are kept at a time, an eighth of them or what the caller allows; and columns. With few
    tokens, adding to the kernel's slope takes as long as the products."""
    t = min(tokens, UNIT // 16)
    _enough(function, limit, t * classes * itemsize, f"{t} tokens and all {classes} classes")
    t = max(-(-tokens // 8), COLUMNS) if limit is None else max(t, limit // (classes * itemsize))
    return _even(tokens, t), min(classes, 2 * COLUMNS)


def group(tiles: int, tokens: int, features: int) -> int:
    """Tiles of which the kernel's slopes are added up in the type that is computed in, where the kernel's own is
    narrower: as many as take what the logits of one do. XLA:CPU passes over the whole slope to add to a part of
    it in 16 bits."""
    return next(n for n in range(max(min(tiles, tokens // max(features, 1)), 1), 0, -1) if tiles % n == 0)


def _even(tokens: int, most: int) -> int:
    """Tokens of each block, as few blocks as hold at most so many, all alike."""
    return -(-tokens // -(-tokens // max(min(most, tokens), 1))) if tokens else 1


def laid_out(
    function: str,
    hidden: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    bias: ArrayLike | None,
    vocab_axis: int,
    where: ArrayLike | None,
    ignore_index: int | None,
    soft_cap: ArrayLike | None,
    axis_name: AxisName,
    memory_limit: int | None,
    label_smoothing: ArrayLike = 0.0,
    weights: ArrayLike | None = None,
    entropy: bool = False,
    of_rows: bool = False,
) -> Layout:
    memory_limit = _bytes(function, memory_limit)
    _checks.mapped(function, axis_name)
    (h,), _ = _checks.floating(function, hidden=hidden)
    (w,), _ = _checks.floating(function, kernel=kernel)
    _checks.matrix(function, "kernel", w, "(features, classes), or with vocab_axis=0 (classes, features)")
    (axis,) = _checks.axes(function, (vocab_axis,), 2, "vocab_axis")
    _checks.some_classes(function, w.shape, (axis,))
    features, classes = w.shape[1 - axis], w.shape[axis]
    _checks.require_shape(
        function, "hidden", h.shape, (*h.shape[:-1], features), f" beside a kernel of shape {w.shape}"
    )
    _checks.known_sizes(function, "hidden", h.shape[:-1], "tokens")
    _checks.known_sizes(function, "kernel", (classes,), "classes")
    b = None
    if bias is not None:
        (b,), _ = _checks.floating(function, bias=bias)
        _checks.require_shape(function, "bias", b.shape, (classes,))
    with jax.numpy_dtype_promotion("standard"):
        common = jnp.promote_types(h.dtype, w.dtype)
        if b is not None and b.dtype.itemsize > _checks.compute_type(common).itemsize:
            common = b.dtype
    h = _checks.as_type(h, common)
    shape, dtype = h.shape[:-1], _checks.compute_type(h.dtype)
    y = _checks.integer(function, "labels", labels, shape)
    cap = None if soft_cap is None else _checks.option(function, "soft_cap", soft_cap, (), dtype, positive=True)
    counted, ignored = _checks.mask(function, where, shape), _checks.ignored(function, labels, ignore_index)
    if ignored is not None:
        counted = ~ignored if counted is None else counted & ~ignored

    all_classes = classes * _mesh.devices(axis_name)
    is_class = (y >= 0) & (y < all_classes)
    y = jnp.where(is_class, jnp.where(is_class, y, jnp.zeros_like(y)).astype(jnp.int32), -1)
    tokens = max(prod(shape), 1)  # of none a block of one that is not counted
    if of_rows:
        t, columns = rows(function, tokens, classes, dtype.itemsize, memory_limit)
    else:
        t, columns = tile(function, tokens, classes, dtype.itemsize, memory_limit, counted is not None)
    blocks = -(-tokens // t), t
    if prod(blocks) != prod(shape) and counted is None:
        counted = jnp.ones(shape, bool)
    h, y = _blocks(h, shape, blocks), _blocks(y, shape, blocks)
    if counted is not None:
        counted = _blocks(counted, shape, blocks)
        h, y = masked(h, counted[..., None], 0), jnp.where(counted, y, 0)

    shares = of_label = per_class = None
    if weights is not None:
        per_class = _checks.weights(function, weights, dtype)
        _checks.require_shape(function, "weights", per_class.shape, (classes,))
        own = _mesh.of_device(y, classes, axis_name)
        found = jnp.take(per_class, jnp.where(own < 0, classes, own), mode="fill", fill_value=0)
        of_label = _mesh.over_all(found, axis_name)
        of_label = of_label if counted is None else masked(of_label, counted, 0)
    if not _checks.is_number(label_smoothing, 0):
        shares = jnp.full(classes, 1 / all_classes, dtype)
        shares = shares if per_class is None else per_class * shares
    plan = Plan(axis, classes, columns, 1, axis_name, entropy)
    plan = plan._replace(group=plan.tiles if w.dtype == dtype else group(plan.tiles, t, features))
    return Layout(function, plan, Head(h, w, b, cap, shares), y, of_label, counted, shape)
