"""Floor 2: the cores of the functions along one axis, and their rules.

A row of n classes is folded into q parts of c: x has shape [..., q, c]. The parts are summed one by one, and the part
that holds the top can be summed again without it, at the cost of one part instead of the whole row.

Three habits keep the tails, all derivatives and the compiled code right:

    log sum exp(x) = top + log1p(rest)        the top's own 1 is left out of the sum, or it would absorb the rest
    1 - p_top = sum of the other p            never by subtraction; at most one p is above 1/2
    x - top is clipped at 0, and exact        see `_shift`
"""

from functools import partial
from math import isqrt, prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from stablelogits_jax._checks import as_type, compute_type
from stablelogits_jax._rules import _complement, _difference, _logsubexp

ROW = (-2, -1)
_WHOLE = 128  # rows up to this length stay in one part

recomputed = partial(jax.checkpoint, prevent_cse=False)  # the backward pass keeps the logits, not their softmax


def fold(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """[..., q, c] with q c the number of classes: q the largest divisor up to its square root."""
    n = prod(x.shape[a] for a in axes)
    q = next(d for d in range(isqrt(n), 0, -1) if n % d == 0) if n > _WHOLE else 1
    x = jnp.moveaxis(x, axes, range(-len(axes), 0))
    return x.reshape(*x.shape[: x.ndim - len(axes)], q, n // q)


def unfold(x: jax.Array, axes: tuple[int, ...], shape: tuple[int, ...]) -> jax.Array:
    """The inverse of `fold`: `x` in the original `shape`."""
    batch = x.shape[:-2]
    x = x.reshape(*batch, *(shape[a] for a in axes))
    return jnp.moveaxis(x, range(-len(axes), 0), axes)


def class_index(x: jax.Array) -> jax.Array:
    """The number of each class, [q, c]."""
    q, c = x.shape[-2:]
    return c * jax.lax.broadcasted_iota(jnp.int32, (q, c), 0) + jax.lax.broadcasted_iota(jnp.int32, (q, c), 1)


def _sum(x: jax.Array) -> jax.Array:
    return jnp.sum(x, ROW, keepdims=True)


class Stats(NamedTuple):
    """What one pass over the rows finds, each [..., 1, 1] in the type that is computed in."""

    top: jax.Array  # the largest logit
    total: jax.Array  # sum exp(x - top), in [1, n], or 0 for a row of -inf
    log_total: jax.Array  # its logarithm


def _shift(x: jax.Array, top: jax.Array) -> jax.Array:
    """x - top, in [-inf, 0], under every way of compiling it. With F the largest float:

    (1) x - top        NaN for infinite tops: top is clipped to +-F, so a row of -inf stays -inf
    (2) (x + fence) - top, the fence -F under a top of +inf: +inf gives 0 and every finite x at most -F. Under all other
        tops it is a zero that no compiler knows. It takes up the multiply-add when x = z c is fused into this line:
        fma(z, c, 0) is the rounded x again, where fma(z, c, -top) is not 0 at the top, and overflows exp from 2^31
    (3) clipped at 0, should x have been rounded otherwise here than under the maximum
    """
    dtype = top.dtype
    largest = float(jnp.finfo(dtype).max)
    fence = jnp.where(top == jnp.inf, jnp.asarray(-largest, dtype), 0)
    return jnp.minimum((as_type(x, dtype) + fence) - jnp.clip(top, -largest, largest), fence * 0)


def stats(x: jax.Array) -> Stats:
    """The rows' statistics, as constants: each rule knows how they move with x."""
    return _stats(jax.lax.stop_gradient(x))


@jax.jit
def _stats(x: jax.Array) -> Stats:
    """log sum exp(x - top), with e = exp(x - top), which is 1 at the top:

    (1) log(sum e)        0 where the rest is below 6e-8
    (2) log1p(rest), rest the sum of e < 3/4: if the total is below 3/2, the top is the only e above
    (3) else log(sum e), whose argument is 3/2 or more, ties included
    """
    top = as_type(jnp.max(x, ROW, keepdims=True, initial=-jnp.inf), compute_type(x.dtype))
    parts = jnp.sum(jnp.exp(_shift(x, top)), -1, keepdims=True)
    total = jnp.sum(parts, -2, keepdims=True)
    others = jnp.zeros_like(total)
    if x.shape[-2] > 1:
        holder = jnp.argmax(parts, -2, keepdims=True)
        x = jnp.take_along_axis(x, holder, -2)
        others = _sum(jnp.where(jnp.arange(parts.shape[-2])[:, None] == holder, 0, parts))
    e = jnp.exp(_shift(x, top))
    rest = _sum(jnp.where(e < 0.75, e, 0)) + others
    log_total = jnp.where(total < 1.5, jnp.where(total == 0, -jnp.inf, jnp.log1p(rest)), jnp.log(total))
    return Stats(top, total, log_total)


@jax.custom_jvp
@jax.jit
def _softmax(x: jax.Array, of: Stats) -> jax.Array:
    """exp(x - top) / total, and 0 in a row of -inf."""
    return jnp.exp(_shift(x, of.top)) * (1 / jnp.where(of.total == 0, 1, of.total))


@jax.custom_jvp
@jax.jit
def _logsumexp(x: jax.Array, of: Stats) -> jax.Array:
    return (of.top + of.log_total)[..., 0, 0]


@jax.custom_jvp
@jax.jit
def _log_softmax(x: jax.Array, of: Stats) -> jax.Array:
    return _shift(x, of.top) - jnp.where(of.total == 0, 0, of.log_total)


@jax.custom_jvp
@jax.jit
def _surprisal(x: jax.Array, label: jax.Array, of: Stats) -> jax.Array:
    """-log_softmax(x) at the label: +inf if its class is absent, NaN if it is not in [0, n)."""
    n = x.shape[-2] * x.shape[-1]
    index = jnp.where((label >= 0) & (label < n), label, n)[..., None]
    at_label = jnp.take_along_axis(x.reshape(*x.shape[:-2], n), index, -1, mode="fill", fill_value=jnp.nan)
    shift = _shift(at_label[..., None], of.top)
    return jnp.where(shift == -jnp.inf, jnp.inf, of.log_total - shift)[..., 0, 0]


def softmax(x: jax.Array) -> jax.Array:
    return _softmax(x, stats(x))


def log_softmax(x: jax.Array) -> jax.Array:
    return _log_softmax(x, stats(x))


def logsumexp(x: jax.Array) -> jax.Array:
    return _logsumexp(x, stats(x))


def surprisal(x: jax.Array, label: jax.Array) -> jax.Array:
    return _surprisal(x, label, stats(x))


def _around_hot(p: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The class with p > 1/2 (hot, if there is one), and t - sum p t in two forms: for the others and for the hot.

    t_hot - sum p t = t_hot (1 - p_hot) - sum' p t, with 1 - p_hot = sum' p, the sums without the hot class. The
    transpose of this map has the same form, so reverse mode keeps what forward mode keeps.
    """
    hot = p > 0.5
    rest = jnp.where(hot, 0, p)
    t_hot = _sum(jnp.where(hot, t, 0))
    inner = _sum(rest * t)
    return hot, rest, t - ((1 - _sum(rest)) * t_hot + inner), _sum(rest) * t_hot - inner


@_softmax.defjvp
def _softmax_jvp(primals: tuple, tangents: tuple) -> tuple:
    @recomputed
    def tangent(x: jax.Array, of: Stats, x_dot: jax.Array) -> jax.Array:
        p = _softmax(x, of)
        hot, rest, t, t_hot = _around_hot(p, as_type(x_dot, p.dtype))
        return jnp.where(hot, p * t_hot, rest * t)

    return _softmax(*primals), tangent(*primals, tangents[0])


@_log_softmax.defjvp
def _log_softmax_jvp(primals: tuple, tangents: tuple) -> tuple:
    @recomputed
    def tangent(x: jax.Array, of: Stats, x_dot: jax.Array) -> jax.Array:
        p = _softmax(x, of)
        hot, _, t, t_hot = _around_hot(p, as_type(x_dot, p.dtype))
        return jnp.where(of.total == 0, 0, jnp.where(hot, t_hot, t))

    return _log_softmax(*primals), tangent(*primals, tangents[0])


@_logsumexp.defjvp
def _logsumexp_jvp(primals: tuple, tangents: tuple) -> tuple:
    @recomputed
    def tangent(x: jax.Array, of: Stats, x_dot: jax.Array) -> jax.Array:
        return inner(_softmax(x, of), x_dot)

    return _logsumexp(*primals), tangent(*primals, tangents[0])


@_surprisal.defjvp
def _surprisal_jvp(primals: tuple, tangents: tuple) -> tuple:
    """The slope is p - onehot, and at the label p - 1 comes from log p."""

    @recomputed
    def tangent(x: jax.Array, label: jax.Array, of: Stats, y: jax.Array, x_dot: jax.Array) -> jax.Array:
        y = y[..., None, None]
        scale = jnp.where(jnp.isnan(y), jnp.nan, jnp.where(of.total == 0, 0, 1))
        is_label = class_index(x) == label[..., None, None]
        return inner(jnp.where(is_label, -_complement(-y) * scale, _softmax(x, of) * scale), x_dot)

    y = _surprisal(*primals)
    return y, tangent(*primals, y, tangents[0])


@jax.custom_jvp
def _signed_logsumexp(x: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log|sum b exp(x)| and the sign of the sum."""
    return _split_signs(x, b)


@jax.jit
def _split_signs(x: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """|b| exp(x) = exp(x + log|b|): the positive and the negative terms are summed apart, then subtracted once."""
    dtype = compute_type(x.dtype)
    x, b = as_type(x, dtype), as_type(b, dtype)
    log_terms = jnp.where(b == 0, -jnp.inf, x + jnp.log(jnp.abs(jnp.where(b == 0, 1, b))))
    negative = b < 0
    plus = logsumexp(jnp.where(negative, -jnp.inf, log_terms))
    minus = logsumexp(jnp.where(negative, log_terms, -jnp.inf))
    plus = jnp.where(jnp.any(jnp.isnan(b), ROW), jnp.nan, plus)
    y = _logsubexp(jnp.maximum(plus, minus), jnp.minimum(plus, minus))
    return y, jnp.sign(_difference(plus, minus))


@partial(_signed_logsumexp.defjvp, symbolic_zeros=True)
def _signed_logsumexp_jvp(primals: tuple, tangents: tuple) -> tuple:
    """sign exp(x - y) (b x_dot + b_dot). The x part goes by the rules of the two sums, which keep the tails; they know
    nothing of a term with b = 0, whose x part is 0 but grows with b."""
    (x, b), (x_dot, b_dot) = primals, tangents
    y, sign = _signed_logsumexp(x, b)
    b = as_type(b, y.dtype)
    slope = jnp.exp(as_type(x, y.dtype) - y[..., None, None]) * sign[..., None, None]
    y_dot = jnp.zeros_like(y)
    if not isinstance(x_dot, SymbolicZero):
        y_dot += jax.jvp(lambda x: _split_signs(x, b)[0], (x,), (x_dot,))[1]
        y_dot += inner(jnp.where(b == 0, slope * b, 0), x_dot)
    if not isinstance(b_dot, SymbolicZero):
        y_dot += inner(slope, b_dot)
    return (y, sign), (y_dot, jnp.zeros_like(sign))


def inner(slope: jax.Array, t: jax.Array) -> jax.Array:
    return jnp.sum(slope * as_type(t, slope.dtype), ROW)
