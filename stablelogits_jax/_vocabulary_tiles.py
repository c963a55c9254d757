"""Floor 4: tiles [t, c] of the logits hidden @ kernel, and what is seen in them.

What stays of a token is `Look`: its top, and the sum of exp(z - top) without the top's own 1, as in `_stats.py`, which
two looks at different classes add up to.

The last tile begins where it ends with the last class. What it has in common with the one before is -inf in it: nothing
is padded, nor the kernel copied.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from stablelogits_jax import _mesh
from stablelogits_jax._bivariate import _soft_cap, _times
from stablelogits_jax._checks import as_type, compute_type
from stablelogits_jax._closed import _log1p
from stablelogits_jax._mesh import AxisName
from stablelogits_jax._row_sums import row_sum
from stablelogits_jax._stats import _shift


class Head(NamedTuple):
    """What the logits are made of; as tangents, None for what does not move. Tokens come in blocks [B, t], those of a
    tile together."""

    hidden: Any  # [B, t, D]
    kernel: Any  # [D, V] or [V, D]
    bias: jax.Array | None  # [V]
    soft_cap: jax.Array | None  # []
    shares: jax.Array | None  # [V], what each class has of a label that is spread over all


class Plan(NamedTuple):
    """What is known before any number is: it is compiled for."""

    vocab_axis: int
    classes: int  # of the kernel, which may be one device's part of them
    columns: int  # of a tile
    group: int  # how many tiles' tangents of the kernel are kept in the type that is computed in, a divisor of all
    axis_name: AxisName
    entropy: bool

    @property
    def tiles(self) -> int:
        return -(-self.classes // self.columns)


class Tokens(NamedTuple):
    """Numbers of each token, [B, t]."""

    surprisal: jax.Array  # -log p of the label
    log_total: jax.Array  # log(total), which moves as logsumexp(z)
    doubt: jax.Array  # 1 - p of the top
    top: Any  # a constant to derivatives, which have None
    total: Any  # sum exp(z - top), another
    shared: jax.Array | None  # sum u (logsumexp(z) - z) with the shares u
    entropy: jax.Array | None


# Tiles ------------------------------------------------------------------------------------------------------------


class Columns(NamedTuple):
    """A tile's part of the classes: a slice of the kernel, and of what else has one number for each class."""

    kernel: Any
    bias: jax.Array | None
    shares: jax.Array | None


def first_column(plan: Plan, i: jax.Array, tiles: int = 1) -> jax.Array:
    """First class of the i-th run of so many tiles; the last run is moved back, to end with the last class."""
    n = tiles * plan.columns
    return jnp.clip(i.astype(jnp.int32) * n, 0, max(plan.classes - n, 0))


def cut(plan: Plan, of: Any, start: jax.Array, tiles: int = 1) -> Columns:
    """The columns of some tiles, of a head, of its tangents or of other columns."""
    size = min(tiles * plan.columns, plan.classes)

    def cut(a: jax.Array | None, axis: int = 0) -> jax.Array | None:
        return None if a is None else jax.lax.dynamic_slice_in_dim(a, start, size, axis)

    return Columns(cut(of.kernel, plan.vocab_axis), cut(of.bias), cut(of.shares))


def columns_of(plan: Plan, i: jax.Array, head: Head) -> tuple[Columns, jax.Array]:
    """The columns of tile i, and their numbers among all devices' classes, or -1 if the tile before had them."""
    start = first_column(plan, i)
    own = start + jnp.arange(plan.columns, dtype=jnp.int32)
    all_before = _mesh.first_class(plan.classes, plan.axis_name)
    number = jnp.where(own >= i.astype(jnp.int32) * plan.columns, own + all_before, -1)
    return cut(plan, head, start), number


def products(plan: Plan, hidden: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> jax.Array:
    dtype = compute_type(hidden.dtype)
    contracted = (((1,), (1 - plan.vocab_axis,)), ((), ()))
    z = jax.lax.dot_general(hidden, as_type(kernel, hidden.dtype), contracted, preferred_element_type=dtype)
    return z if bias is None else z + as_type(bias, dtype)[None]


def logits(plan: Plan, number: jax.Array, products: jax.Array, soft_cap: jax.Array | None) -> jax.Array:
    z = products if soft_cap is None else _soft_cap(products, soft_cap[None, None])
    return z if plan.classes % plan.columns == 0 else jnp.where(number[None] >= 0, z, -jnp.inf)


# What is seen -----------------------------------------------------------------------------------------------------


class Look(NamedTuple):
    """Sums over the classes seen so far, each [t, 1], or of all blocks [B, t, 1]."""

    top: jax.Array
    tops: jax.Array  # 1, or of all devices how many have it, or 0 where nothing was seen
    rest: jax.Array  # sum exp(z - top) over all else, which is 1 for another top
    label: jax.Array  # the label's logit, 0 if it was not seen
    gap: jax.Array | None  # sum u (top - z)
    seen: jax.Array | None  # sum u
    spread: jax.Array | None  # sum exp(z - top) (top - z)


def _from_top(look: Look, top: jax.Array) -> Look:
    """The same sums beside a higher top."""
    far = _shift(look.top, top)
    scale, below = jnp.exp(far), look.top < top
    gap, spread = look.gap, look.spread
    if gap is not None:
        gap = gap - _times(look.seen, far)
    if spread is not None:
        spread = scale * (spread - (look.tops + look.rest) * jnp.maximum(far, FAR))
    rest = jnp.where(below, (look.tops + look.rest) * scale, look.rest)
    return look._replace(top=top, tops=jnp.where(below, 0, look.tops), rest=rest, gap=gap, spread=spread)


FAR = -2000.0  # its exponential is 0 in every type


def first_look(plan: Plan, t: int, dtype: Any, shared: bool, *beside: Any) -> Look:
    zeros = _mesh.own_zeros((t, 1), dtype, *beside)
    of_shares = zeros if shared else None
    return Look(zeros - jnp.inf, zeros, zeros, zeros, of_shares, of_shares, zeros if plan.entropy else None)


def look_at(look: Look, z: jax.Array, labels: jax.Array, shares: jax.Array | None, number: jax.Array) -> Look:
    """The look with a tile's classes added."""
    look = _from_top(look, jnp.maximum(look.top, jnp.max(z, -1, keepdims=True)))
    d = _shift(z, look.top)
    total = row_sum(jnp.exp(d))
    has_top = (look.tops == 0) & (look.top > -jnp.inf)
    rest = look.rest + jnp.where(has_top, _without_top(d, total, has_top & (look.rest + total < 1.5)), total)
    n = z.shape[-1]
    own = jnp.clip(labels - number[-1] + (n - 1), 0, n - 1)
    here = jnp.take(number, own) == labels
    label = jnp.where(here[:, None], jnp.take_along_axis(z, own[:, None], -1), look.label)
    gap, seen, spread = look.gap, look.seen, look.spread
    if shares is not None and gap is not None and seen is not None:
        u = jnp.where(number >= 0, shares, 0)[None]
        gap, seen = gap - row_sum(_times(u, d)), seen + row_sum(u)
    if spread is not None:
        spread = spread - row_sum(jnp.exp(d) * jnp.maximum(d, FAR))
    return Look(look.top, jnp.where(has_top, 1, look.tops), rest, label, gap, seen, spread)


def _without_top(d: jax.Array, total: jax.Array, sure: jax.Array) -> jax.Array:
    """sum exp(d) less the 1 of one top: taken away from the total, or where that is near 1 never added, which costs a
    pass over a tile in which any row is such."""

    def rest() -> jax.Array:
        return jnp.where(sure, row_sum(jnp.where(d < 0, jnp.exp(d), 0)), total - 1)

    return jax.lax.cond(jnp.any(sure), rest, lambda: total - 1)


def concluded(plan: Plan, look: Look, labels: jax.Array) -> Tokens:
    """A label that is none of the classes is NaN; a label whose class is absent is infinitely far from the top."""
    top = _mesh.largest_of_all(look.top, plan.axis_name)
    sums = _mesh.over_all(_from_top(look, top)[1:], plan.axis_name)
    tops, rest, label, gap, seen, spread = sums
    total, log_total, far = tops + rest, _log1p((tops - 1) + rest), _shift(label, top)
    surprisal = jnp.where(far == -jnp.inf, jnp.inf, log_total - far)[..., 0]
    is_class = (labels >= 0) & (labels < plan.classes * _mesh.devices(plan.axis_name))
    none = total == 0  # of the classes is there: each is infinitely far
    shared = None if gap is None or seen is None else (gap + jnp.where(none, 0, _times(seen, log_total)))[..., 0]
    if spread is not None:
        spread = jnp.where(none, 0, log_total + spread / jnp.where(none, 1, total))[..., 0]
    doubt = ((tops - 1) + rest) / jnp.where(none, 1, total)
    surprisal = jnp.where(is_class, surprisal, jnp.nan)
    log_total, doubt, top, total = (a[..., 0] for a in (log_total, doubt, top, total))
    return Tokens(surprisal, log_total, doubt, top, total, shared, spread)
