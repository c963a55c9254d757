"""Floor 4: losses of tokens as one number, whose slope is taken while the logits are at hand.

The logits of a few tokens at a time, [t, V], are made in tiles and kept until the slopes of hidden and kernel are
taken: three products in the place of four.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from stablelogits_jax import _mesh
from stablelogits_jax._bivariate import _times
from stablelogits_jax._checks import as_type, compute_type
from stablelogits_jax._core import core, define_slopes, masked
from stablelogits_jax._vocabulary import tile_tangent, tokens
from stablelogits_jax._vocabulary_tiles import (
    Columns,
    Head,
    Look,
    Plan,
    Tokens,
    columns_of,
    concluded,
    first_column,
    first_look,
    logits,
    look_at,
    products,
)


class Terms(NamedTuple):
    """What a loss is made of, beside its token's numbers; each of the tokens' shape [B, t]."""

    label_weight: jax.Array | None
    smoothing: jax.Array | None
    z_loss: jax.Array | None


def losses(of: Tokens, terms: Terms) -> jax.Array:
    """(1 - s) w y + s (the part that is shared) + z logsumexp^2"""
    y = of.surprisal
    if terms.label_weight is not None:
        y = _times(terms.label_weight, y)
    if terms.smoothing is not None and of.shared is not None:
        y = _times(1 - terms.smoothing, y) + _times(terms.smoothing, of.shared)
    if terms.z_loss is not None:
        y = y + _z_term(terms.z_loss, log_normalizer(of))
    return y


@core
def _z_term(z: jax.Array, log_normalizer: jax.Array) -> jax.Array:
    """z logsumexp^2, and 0 for a z of 0, whose slope is the square"""
    return _times.closed(_times.closed(z, log_normalizer), log_normalizer)


define_slopes(
    _z_term,
    lambda z, log_normalizer: log_normalizer**2,
    lambda z, log_normalizer: 2 * _times(z, log_normalizer),
)


def log_normalizer(of: Tokens) -> jax.Array:
    """logsumexp(z), which in a row of -inf does not move."""
    return masked(of.top + of.log_total, of.top != -jnp.inf, -jnp.inf)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def total(
    plan: Plan, head: Head, terms: Terms, weights: jax.Array, labels: jax.Array, counted: jax.Array | None
) -> jax.Array:
    """sum w loss"""
    return _by_tokens(plan, labels, counted, head, terms, weights)


def _by_tokens(
    plan: Plan, labels: jax.Array, counted: jax.Array | None, head: Head, terms: Terms, weights: jax.Array
) -> jax.Array:
    return jnp.sum(_times(weights, losses(tokens(plan, head, labels, counted), terms)))


@partial(total.defjvp, symbolic_zeros=True)
def _total_jvp(plan: Plan, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    """The slopes, in the type that is computed in, times the tangents. Those of what does not move are not used, so
    not computed."""
    *moving, labels, counted = primals
    y, slopes = _with_slopes(plan, *moving, labels, counted)
    y_dot = jnp.zeros_like(y)
    for slope, dot in zip(jax.tree.leaves(slopes), jax.tree.leaves(tangents[:3], is_leaf=_is_zero), strict=True):
        if not _is_zero(dot):
            y_dot += jnp.sum(as_type(slope, y.dtype) * as_type(dot, y.dtype))
    return y, y_dot


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, SymbolicZero)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _with_slopes(
    plan: Plan, head: Head, terms: Terms, weights: jax.Array, labels: jax.Array, counted: jax.Array | None
) -> tuple[jax.Array, tuple[Head, Terms, jax.Array]]:
    dtype = compute_type(head.hidden.dtype)
    everything = (head, terms, weights, labels)
    head = _mesh.spread(head, everything)
    all_shares = None if head.shares is None else jnp.sum(head.shares)

    def of_block(carry: tuple[Head, jax.Array], xs: tuple) -> tuple[tuple[Head, jax.Array], tuple]:
        (sums, x), (hidden, terms, weights, labels, counted) = carry, xs
        tiles = plan.tiles if counted is None else jnp.where(counted, plan.tiles, 0)

        def look(i: jax.Array, carry: tuple[Look, jax.Array]) -> tuple[Look, jax.Array]:
            columns, number = columns_of(plan, i, head)
            x_i = products(plan, hidden, columns.kernel, columns.bias)
            seen = look_at(carry[0], logits(plan, number, x_i, head.soft_cap), labels, columns.shares, number)
            return seen, jax.lax.dynamic_update_index_in_dim(carry[1], x_i, i, 0)

        start = first_look(plan, len(hidden), dtype, head.shares is not None, everything)
        seen, x = jax.lax.fori_loop(0, tiles, look, (start, x))
        of = concluded(plan, seen, labels)
        if counted is not None:  # there is nothing that an ignored block could have concluded
            of = jax.tree.map(lambda a: jnp.where(counted, a, 0), of)
        y, pull = jax.vjp(lambda of, terms, w: jnp.sum(_times(w, losses(of, terms))), of, terms, weights)
        of_ct, *by_token = pull(jnp.ones_like(y))
        of_ct = of_ct._replace(top=None, total=None)

        def slope(i: jax.Array, carry: tuple[jax.Array, Head]) -> tuple[jax.Array, Head]:
            hidden_ct, sums = carry
            (kernel, _, shares), number = columns_of(plan, i, head)
            z, uncap = jax.vjp(partial(logits, plan, number), x[i], head.soft_cap)
            tangent = partial(tile_tangent, of, z, labels, shares, number, all_shares)
            z_ct, shares_ct = jax.linear_transpose(tangent, z, shares)(of_ct)
            x_ct, cap_ct = uncap(z_ct)
            hidden_ct += _dot(x_ct, as_type(kernel, dtype), 1, plan.vocab_axis)
            a, b = (x_ct, as_type(hidden, dtype))[:: 1 if plan.vocab_axis == 0 else -1]
            kernel_ct = _dot(a, b, 0, 0)
            columns_ct = Columns(kernel_ct, jnp.sum(x_ct, 0), shares_ct)
            return hidden_ct, _added(plan, i, sums, columns_ct, cap_ct)

        hidden_ct, sums = jax.lax.fori_loop(0, tiles, slope, (_mesh.own_zeros(hidden.shape, dtype, everything), sums))
        return (sums, x), (y, hidden_ct, *by_token)

    fixed = head._replace(hidden=None)
    zeros = jax.tree.map(lambda a: _mesh.own_zeros(a.shape, dtype, everything), fixed)
    x = _mesh.own_zeros((plan.tiles, head.hidden.shape[1], plan.columns), dtype, everything)
    (sums, _), (y, *by_token) = jax.lax.scan(of_block, (zeros, x), (head.hidden, terms, weights, labels, counted))
    return jnp.sum(y), (sums._replace(hidden=by_token[0]), *by_token[1:])


def _dot(a: jax.Array, b: jax.Array, i: int, j: int) -> jax.Array:
    return jax.lax.dot_general(a, b, (((i,), (j,)), ((), ())))


def _added(plan: Plan, i: jax.Array, sums: Head, columns: Columns, soft_cap: jax.Array | None) -> Head:
    """The sums with a tile's slopes added in place; where it overlaps the one before, they are 0."""
    start = first_column(plan, i)

    def add(total: jax.Array | None, part: jax.Array | None, axis: int = 0) -> jax.Array | None:
        if total is None or part is None:
            return total
        part += jax.lax.dynamic_slice_in_dim(total, start, plan.columns, axis)
        return jax.lax.dynamic_update_slice_in_dim(total, part, start, axis)

    return Head(
        None,
        add(sums.kernel, columns.kernel, plan.vocab_axis),
        add(sums.bias, columns.bias),
        None if sums.soft_cap is None or soft_cap is None else sums.soft_cap + soft_cap,
        add(sums.shares, columns.shares),
    )


@_with_slopes.defjvp
def _with_slopes_jvp(plan: Plan, primals: tuple, tangents: tuple) -> tuple:
    """The slope of the sum over tokens, whose tiles are made anew."""
    labels, counted = primals[3:]
    slopes = jax.value_and_grad(partial(_by_tokens, plan, labels, counted), (0, 1, 2))
    found = _with_slopes(plan, *primals)
    moved = jax.jvp(slopes, primals[:3], tangents[:3])[1]
    return found, jax.tree.map(lambda a, like: as_type(a, like.dtype), moved, found)
