"""Floor 4: numbers of tokens whose logits, hidden @ kernel, are never all there.

A tile of the logits is made, looked at and forgotten. The derivative makes each tile again, and is linear in the tile's
tangent: forward mode sums over it, and the transpose of that, by JAX, adds up the slopes of hidden and of the kernel,
the latter in place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from stablelogits_jax import _mesh
from stablelogits_jax._checks import as_type, compute_type
from stablelogits_jax._closed import _complement, _log1p
from stablelogits_jax._core import recomputed
from stablelogits_jax._double_float import opaque
from stablelogits_jax._stats import _shift
from stablelogits_jax._vocabulary_tiles import (
    FAR,
    Columns,
    Head,
    Look,
    Plan,
    Tokens,
    columns_of,
    concluded,
    cut,
    first_column,
    first_look,
    logits,
    look_at,
    products,
)


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
                columns, number = columns_of(plan, i, head)
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


def _times_log_share(u_dot: jax.Array, u: jax.Array, z: jax.Array, log_total: jax.Array, top: jax.Array) -> jax.Array:
    """u_dot log p, linear in u_dot. For an absent class that has a share log p is -inf, and 0 times it 0, also when it
    is transposed: -F F, for the largest float F, of which XLA must not make one number."""
    absent, largest = z == -jnp.inf, opaque(float(jnp.finfo(z.dtype).max), z.dtype)
    finite = u_dot * jnp.where(absent, 0, _log_share(z, log_total, top))
    return finite - (jnp.where(absent & (u != 0), u_dot, 0) * largest) * largest


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
            u_dot = jnp.where(number >= 0, shares_dot, 0)[None]
            shared = shared - jnp.sum(_times_log_share(u_dot, u, z, log_total, top), -1)
    if of.entropy is not None:
        log_p = jnp.where(hot, _log1p(-doubt), _log_share(z, log_total, top))
        entropy = -jnp.sum(p * (log_p + of.entropy[:, None]) * z_dot, -1)
    by_p = p * jnp.where(p == 0, 0, z_dot)  # also of what has an infinite slope, as a z-loss beside +inf
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
    def of_columns(start: jax.Array, carry: tuple, i: jax.Array) -> tuple[tuple, None]:
        sums, (hidden_dot, group_dot, soft_cap_dot) = carry
        columns, number = columns_of(plan, i, head)
        columns_dot = cut(plan, group_dot, first_column(plan, i) - start)

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

        moving = hidden_dot, columns_dot, soft_cap_dot
        _, parts = jax.lax.scan(of_tile, moving, (jnp.arange(len(labels)), head.hidden, labels, counted, of))
        return (jax.tree.map(jnp.add, sums, parts), carry[1]), None

    @recomputed
    def of_group(carry: tuple[Tokens, Head], g: jax.Array) -> tuple[tuple[Tokens, Head], None]:
        sums, head_dot = carry
        start = first_column(plan, g, plan.group)
        group_dot = Columns(*(_as(a, dtype) for a in cut(plan, head_dot, start, plan.group)))
        moving = head_dot.hidden, group_dot, head_dot.soft_cap
        tiles = jnp.arange(plan.group) + g * plan.group
        (sums, _), _ = jax.lax.scan(partial(of_columns, start), (sums, moving), tiles)
        return (sums, head_dot), None

    constants = {"top": None, "total": None}
    zeros = jax.tree.map(lambda a: _mesh.own_zeros(a.shape, a.dtype, everything), of._replace(**constants))
    (sums, _), _ = jax.lax.scan(of_group, (zeros, head_dot), jnp.arange(plan.tiles // plan.group))
    still = jnp.zeros_like(of.top)
    return of, _mesh.over_all(sums, plan.axis_name)._replace(top=still, total=still)


def _as(x: jax.Array | None, dtype: Any) -> jax.Array | None:
    return None if x is None else as_type(x, dtype)
