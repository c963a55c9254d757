"""Floor 2: sums of exponentials with factors of either sign, their cores and rules."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from stablelogits_jax._bivariate import _difference, _logsubexp
from stablelogits_jax._checks import as_type, compute_type
from stablelogits_jax._core import moved, recomputed
from stablelogits_jax._row_sums import inner, row_sum
from stablelogits_jax._rows import logsumexp
from stablelogits_jax._stats import _shift


@recomputed
def signed_logsumexp(x: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log|sum b exp(x)| and the sign of the sum. x is shifted before log|b| is added, or it would round it off."""
    b = as_type(b, compute_type(x.dtype))
    present = jnp.where(b == 0, -jnp.inf, as_type(x, b.dtype))
    top = jnp.max(jax.lax.stop_gradient(present), -1, keepdims=True, initial=-jnp.inf)
    y, sign = _signed_logsumexp(_aligned(x, top), b)
    return top[..., 0] + y, sign


@jax.custom_jvp
def _aligned(x: jax.Array, top: jax.Array) -> jax.Array:
    """x - top as another name of x: what is added back later cancels in every slope.

    Where b = 0, x may be above the top.
    """
    x = as_type(x, top.dtype)
    return jnp.where(x > top, x - top, _shift(x, top))


@_aligned.defjvp
def _aligned_jvp(primals: tuple, tangents: tuple) -> tuple:
    y = _aligned(*primals)
    return y, as_type(tangents[0], y.dtype)


@jax.custom_jvp
@jax.jit
def _signed_logsumexp(x: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """|b| exp(x) = exp(x + log|b|): the positive and the negative terms are summed apart, then subtracted once."""
    log_terms = jnp.where(b == 0, -jnp.inf, x + jnp.log(jnp.abs(jnp.where(b == 0, 1, b))))
    plus = logsumexp(jnp.where(b < 0, -jnp.inf, log_terms))
    minus = logsumexp(jnp.where(b < 0, log_terms, -jnp.inf))
    y = _logsubexp(jnp.maximum(plus, minus), jnp.minimum(plus, minus))
    return y, jnp.sign(_difference(plus, minus))


@jax.custom_jvp
@jax.jit
def _per_factor(x: jax.Array, b: jax.Array) -> jax.Array:
    """sign exp(x - y), the slope of y = log|sum b exp(x)| in a factor, and p = b times that in x; 0 beside no term."""
    y, sign = _signed_logsumexp(x, b)
    nothing = jnp.all((b == 0) | ((x == -jnp.inf) & ~jnp.isnan(b)), -1)
    return jnp.where(nothing[..., None], 0, jnp.exp(x - y[..., None]) * sign[..., None])


@jax.custom_jvp
@jax.jit
def _share(x: jax.Array, b: jax.Array) -> jax.Array:
    """p = b times that, the slope in x; a term with b = 0 has no share, however large its exponential."""
    return jnp.where(b == 0, 0, b * _per_factor(x, b))


@partial(_signed_logsumexp.defjvp, symbolic_zeros=True)
def _signed_logsumexp_jvp(primals: tuple, tangents: tuple) -> tuple:
    x_dot, b_dot = tangents
    y, sign = _signed_logsumexp(*primals)
    by_logits = x_dot, lambda dot: inner(_share(*primals), dot)
    by_factors = b_dot, lambda dot: inner(_per_factor(*primals), dot)
    return (y, sign), (moved(y, by_logits, by_factors), jnp.zeros_like(sign))


def _moves(primals: tuple, tangents: tuple) -> tuple[jax.Array, ...]:
    """How a term moves, w = p x_dot + f b_dot with f = _per_factor, as both parts; the mask of the hot term, which has
    p > 1/2; the sum r of the other p, which is 1 - p there; and the sum of the other w."""
    p, zeros = _share(*primals), jnp.zeros_like(primals[0])
    x_dot, b_dot = tangents
    by_logit = zeros if isinstance(x_dot, SymbolicZero) else p * x_dot
    by_factor = zeros if isinstance(b_dot, SymbolicZero) else _per_factor(*primals) * b_dot
    hot = p > 0.5
    r, others = (row_sum(jnp.where(hot, 0, a)) for a in (p, by_logit + by_factor))
    return by_logit, by_factor, hot, r, others


@partial(_share.defjvp, symbolic_zeros=True)
def _share_jvp(primals: tuple, tangents: tuple) -> tuple:
    """w - p sum w, which at the hot term is r w - p sum' w."""
    by_logit, by_factor, hot, r, others = _moves(primals, tangents)
    p, w = _share(*primals), by_logit + by_factor
    return p, jnp.where(hot, r * w - p * others, w - p * (row_sum(jnp.where(hot, w, 0)) + others))


@partial(_per_factor.defjvp, symbolic_zeros=True)
def _per_factor_jvp(primals: tuple, tangents: tuple) -> tuple:
    """f (x_dot - sum w), which at the hot term is f (r x_dot - f b_dot - sum' w)."""
    by_logit, by_factor, hot, r, others = _moves(primals, tangents)
    f, x_dot = _per_factor(*primals), tangents[0]
    t = jnp.zeros_like(f) if isinstance(x_dot, SymbolicZero) else x_dot
    all_moves = row_sum(jnp.where(hot, by_logit + by_factor, 0)) + others
    return f, f * jnp.where(hot, (r * t - by_factor) - others, t - all_moves)
