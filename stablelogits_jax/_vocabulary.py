"""Floor 4: logits that are never all there: hidden @ kernel, one tile of tokens and classes after another.

A tile [t, c] of the logits is made, looked at and forgotten. What stays of a token is `Look`: its top, and the sum of
exp(z - top) without the top's own 1, as in `_stats.py`, which two looks at different classes add up to. The
derivative makes each tile again, and is linear in the tile's tangent: forward mode sums over it, and the transpose of
that, by JAX, adds up the slopes of hidden and of the kernel, the latter in place.

The last tile begins where it ends with the last class. What it has in common with the one before is -inf in it: nothing
is padded, nor the kernel copied.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from stablelogits_jax import _mesh
from stablelogits_jax._bivariate import _soft_cap, _times
from stablelogits_jax._checks import as_type, compute_type
from stablelogits_jax._closed import _complement, _log1p
from stablelogits_jax._core import recomputed
from stablelogits_jax._mesh import AxisName
from stablelogits_jax._stats import _shift, _sum


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


def first_column(plan: Plan, i: jax.Array) -> jax.Array:
    return jnp.minimum(i.astype(jnp.int32) * plan.columns, plan.classes - plan.columns)


def columns_of(plan: Plan, i: jax.Array, kernel: Any, bias: Any, shares: Any) -> tuple[Columns, jax.Array]:
    """The columns of tile i, and their numbers among all devices' classes, or -1 if the tile before had them."""
    start = first_column(plan, i)
    own = start + jnp.arange(plan.columns, dtype=jnp.int32)
    number = jnp.where(
        own >= i.astype(jnp.int32) * plan.columns, own + _mesh.first_class(plan.classes, plan.axis_name), -1
    )

    def cut(a: jax.Array | None, axis: int = 0) -> jax.Array | None:
        return None if a is None else jax.lax.dynamic_slice_in_dim(a, start, plan.columns, axis)

    return Columns(cut(kernel, plan.vocab_axis), cut(bias), cut(shares)), number


def products(plan: Plan, hidden: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> jax.Array:
    dtype = compute_type(hidden.dtype)
    contracted = (((1,), (1 - plan.vocab_axis,)), ((), ()))
    z = jax.lax.dot_general(hidden, as_type(kernel, hidden.dtype), contracted, preferred_element_type=dtype)
    return z if bias is None else z + as_type(bias, dtype)[None]


def logits(plan: Plan, number: jax.Array, products: jax.Array, soft_cap: jax.Array | None) -> jax.Array:
    z = products if soft_cap is None else _soft_cap(products, soft_cap[None, None])
    return z if plan.classes % plan.columns == 0 else jnp.where(number[None] >= 0, z, -jnp.inf)


# The value --------------------------------------------------------------------------------------------------------


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
    total = _sum(jnp.exp(d))
    has_top = (look.tops == 0) & (look.top > -jnp.inf)
    rest = look.rest + jnp.where(has_top, _without_top(d, total, has_top & (look.rest + total < 1.5)), total)
    n = z.shape[-1]
    own = jnp.clip(labels - number[-1] + (n - 1), 0, n - 1)
    here = jnp.take(number, own) == labels
    label = jnp.where(here[:, None], jnp.take_along_axis(z, own[:, None], -1), look.label)
    gap, seen, spread = look.gap, look.seen, look.spread
    if shares is not None and gap is not None and seen is not None:
        u = jnp.where(number >= 0, shares, 0)[None]
        gap, seen = gap - _sum(_times(u, d)), seen + _sum(u)
    if spread is not None:
        spread = spread - _sum(jnp.exp(d) * jnp.maximum(d, FAR))
    return Look(look.top, jnp.where(has_top, 1, look.tops), rest, label, gap, seen, spread)


def _without_top(d: jax.Array, total: jax.Array, sure: jax.Array) -> jax.Array:
    """sum exp(d) less the 1 of one top: taken away from the total, or where that is near 1 never added, which costs a
    pass over a tile in which any row is such."""

    def rest() -> jax.Array:
        return jnp.where(sure, _sum(jnp.where(d < 0, jnp.exp(d), 0)), total - 1)

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


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def tokens(plan: Plan, head: Head, labels: jax.Array, counted: jax.Array | None) -> Tokens:
    """Of all blocks; one of which no token is counted is not computed, if that is known.

    Devices talk once, after the loop: what is said within a branch XLA:CPU does not order among what else is said, and
    devices that say it in different orders wait for one another for ever.
    """

    def of_block(xs: tuple) -> Look:
        hidden, labels, counted = xs

        def look() -> Look:
            def of_tile(look: Look, i: jax.Array) -> tuple[Look, None]:
                columns, number = columns_of(plan, i, *head[1:3], head.shares)
                z = logits(plan, number, products(plan, hidden, columns.kernel, columns.bias), head.soft_cap)
                return look_at(look, z, labels, columns.shares, number), None

            start = first_look(plan, len(hidden), compute_type(hidden.dtype), head.shares is not None, hidden, head)
            return jax.lax.scan(of_tile, start, jnp.arange(plan.tiles))[0]

        return _unless_ignored(counted, look)

    of = concluded(plan, jax.lax.map(of_block, (head.hidden, labels, counted)), labels)
    return of if counted is None else jax.tree.map(lambda a: jnp.where(counted[:, None], a, 0), of)


def _unless_ignored(counted: jax.Array | None, f: Callable) -> Any:
    """f(), or zeros for a block of which no token is counted."""
    if counted is None:
        return f()
    zeros = jax.tree.map(lambda a: _mesh.own_zeros(a.shape, a.dtype, a), jax.eval_shape(f))
    return jax.lax.cond(counted, f, lambda: zeros)


# The slope --------------------------------------------------------------------------------------------------------


@jax.custom_jvp
def _share(z: jax.Array, log_total: jax.Array, top: jax.Array, total: jax.Array) -> jax.Array:
    """p, of the total, as its logarithm is some ulps off beside a far z."""
    return jnp.exp(_shift(z, top)) * (1 / jnp.where(total == 0, 1, total))


@_share.defjvp
def _share_jvp(primals: tuple, tangents: tuple) -> tuple:
    p = _share(*primals)
    return p, p * (tangents[0] - tangents[1])


@jax.custom_jvp
def _log_share(z: jax.Array, log_total: jax.Array, top: jax.Array) -> jax.Array:
    """log p, but for what is so far that p is 0"""
    return jnp.maximum(_shift(z, top) - jnp.where(top == -jnp.inf, 0, log_total), FAR)


@_log_share.defjvp
def _log_share_jvp(primals: tuple, tangents: tuple) -> tuple:
    return _log_share(*primals), tangents[0] - tangents[1]


def tile_tangent(
    of: Tokens,
    z: jax.Array,
    labels: jax.Array,
    shares: jax.Array | None,
    number: jax.Array,
    all_shares: jax.Array | None,
    z_dot: jax.Array,
    shares_dot: jax.Array | None,
) -> Tokens:
    """A tile's part of the tangents, linear in those of its logits and shares: (p - onehot) z_dot, p z_dot,
    (p_j - onehot_top p_j - doubt p_j) z_dot, (p sum u - u) z_dot - log p u_dot, and -p (log p + entropy) z_dot.

    p (z_dot - sum p z_dot), by which p moves, cancels at a class with p > 1/2: it is 1 - doubt, and its p - 1 as a
    label comes of the surprisal. In a row of -inf, and for a label that is none of the classes, nothing is or all is
    NaN."""
    y, log_total, doubt, top, total = (a[:, None] for a in of[:5])
    p = _share(z, log_total, top, total)
    hot = p > 0.5
    p = jnp.where(hot, 1 - doubt, p)
    some = jnp.where(total == 0, total, 1)
    miss = jnp.where(labels[:, None] == number[None], -_complement(-y), p) * jnp.where(jnp.isnan(y), y, some)
    shared = entropy = None
    if shares is not None and all_shares is not None:
        u = jnp.where(number >= 0, shares, 0)[None]
        shared = jnp.sum((all_shares * p - u) * some * z_dot, -1)
        if shares_dot is not None:
            log_p = jnp.where(z == -jnp.inf, jnp.where(u == 0, 0, -jnp.inf), _log_share(z, log_total, top))
            shared = shared - jnp.sum(log_p * jnp.where(number >= 0, shares_dot, 0)[None], -1)
    if of.entropy is not None:
        log_p = jnp.where(hot, _log1p(-doubt), _log_share(z, log_total, top))
        entropy = -jnp.sum(p * (log_p + of.entropy[:, None]) * z_dot, -1)
    by_p = p * z_dot
    in_doubt = jnp.sum(jnp.where(hot, 0, by_p) - doubt * by_p, -1)
    return Tokens(jnp.sum(miss * z_dot, -1), jnp.sum(by_p, -1), in_doubt, None, None, shared, entropy)


@partial(tokens.defjvp, symbolic_zeros=True)
def _tokens_jvp(plan: Plan, primals: tuple, tangents: tuple) -> tuple[Tokens, Tokens]:
    """The sum over the tiles, each made again. The tangents are in the type that is computed in, whatever that of what
    moves, and so the cotangents: they are rounded to it once, when they are summed up. What a loop is linear in, it
    carries: JAX 0.7 transposes no other."""
    head, labels, counted = primals
    of = tokens(plan, *primals)
    dtype = compute_type(head.hidden.dtype)
    head_dot = Head(*(None if isinstance(t, SymbolicZero) else t for t in tangents[0]))
    head_dot = head_dot._replace(hidden=_as(head_dot.hidden, dtype))
    everything = (head, head_dot, labels, of)
    head, head_dot = _mesh.spread((head, head_dot), everything)
    if head_dot.soft_cap is None:
        head_dot = head_dot._replace(soft_cap=jax.tree.map(jnp.zeros_like, head.soft_cap))
    all_shares = None if head.shares is None else _mesh.over_all(jnp.sum(head.shares), plan.axis_name)

    @recomputed
    def of_columns(carry: tuple[Tokens, Head], i: jax.Array) -> tuple[tuple[Tokens, Head], None]:
        sums, head_dot = carry
        columns, number = columns_of(plan, i, head.kernel, head.bias, head.shares)
        columns_dot, _ = columns_of(plan, i, head_dot.kernel, head_dot.bias, head_dot.shares)
        moving = head_dot.hidden, tuple(_as(a, dtype) for a in columns_dot), head_dot.soft_cap

        @recomputed
        def of_tile(moving: tuple, xs: tuple) -> tuple[tuple, Tokens]:
            block, hidden, labels, counted, of = xs
            blocks_dot, (kernel_dot, bias_dot, shares_dot), soft_cap_dot = moving
            hidden_dot = None if blocks_dot is None else blocks_dot[block]

            def tangent() -> Tokens:
                x = products(plan, hidden, columns.kernel, columns.bias)
                x_dot = jnp.zeros_like(x) if bias_dot is None else jnp.broadcast_to(bias_dot[None], x.shape)
                if hidden_dot is not None:
                    x_dot += products(plan, hidden_dot, columns.kernel, None)
                if kernel_dot is not None:
                    x_dot += products(plan, as_type(hidden, dtype), kernel_dot, None)
                z, z_dot = jax.jvp(partial(logits, plan, number), (x, head.soft_cap), (x_dot, soft_cap_dot))
                return tile_tangent(of, z, labels, columns.shares, number, all_shares, z_dot, shares_dot)

            return moving, _unless_ignored(counted, tangent)

        _, parts = jax.lax.scan(of_tile, moving, (jnp.arange(len(labels)), head.hidden, labels, counted, of))
        return (jax.tree.map(jnp.add, sums, parts), head_dot), None

    constants = {"top": None, "total": None}
    zeros = jax.tree.map(lambda a: _mesh.own_zeros(a.shape, a.dtype, everything), of._replace(**constants))
    (sums, _), _ = jax.lax.scan(of_columns, (zeros, head_dot), jnp.arange(plan.tiles))
    still = jnp.zeros_like(of.top)
    return of, _mesh.over_all(sums, plan.axis_name)._replace(top=still, total=still)


def _as(x: jax.Array | None, dtype: Any) -> jax.Array | None:
    return None if x is None else as_type(x, dtype)
