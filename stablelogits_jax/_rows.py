"""Floor 2: the cores of the functions along one axis, and their rules.

Rows are [..., n], the classes last. Three habits keep the tails, all derivatives and the compiled code right:

    log sum exp(x) = top + log1p(rest)        the top's own 1 is left out of the sum, or it would absorb the rest
    1 - p_top = sum of the other p            never by subtraction; at most one p is above 1/2
    x - top is clipped at 0, and exact        see `_shift`, and for its exponential `_exp_shift`
"""

from collections.abc import Callable
from functools import partial
from math import isqrt, prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from stablelogits_jax._bivariate import _difference, _logsubexp
from stablelogits_jax._checks import as_type, compute_type
from stablelogits_jax._core import recomputed
from stablelogits_jax._univariate import _complement, _log1p


def flatten(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """[..., n]: the class axes last, as one."""
    x = jnp.moveaxis(x, axes, range(-len(axes), 0))
    batch = x.shape[: x.ndim - len(axes)]
    return x.reshape(*batch, prod(x.shape[len(batch) :]))


def unflatten(x: jax.Array, axes: tuple[int, ...], shape: tuple[int, ...]) -> jax.Array:
    """The inverse of `flatten`: `x` in the original `shape`."""
    x = x.reshape(*x.shape[:-1], *(shape[a] for a in axes))
    return jnp.moveaxis(x, range(-len(axes), 0), axes)


def inner(slope: jax.Array, t: jax.Array) -> jax.Array:
    return _sum_by_parts(slope * as_type(t, slope.dtype))[..., 0]


def _sum(x: jax.Array) -> jax.Array:
    return jnp.sum(x, -1, keepdims=True)


def _sum_by_parts(x: jax.Array) -> jax.Array:
    """sum x, [..., 1], of a long row by parts: the error of a sum grows with the terms that are added in a row."""
    q = _parts(x.shape[-1])
    if q == 1:
        return _sum(x)
    # a barrier before the last step, or XLA would make one sum of two
    return jnp.sum(jax.lax.optimization_barrier(_sum(x.reshape(*x.shape[:-1], q, -1))), -2)


# Statistics of a row ----------------------------------------------------------------------------------------------


class Stats(NamedTuple):
    """What is found in one look at the rows, each [..., 1] in the type that is computed in."""

    top: jax.Array  # the largest logit
    total: jax.Array  # sum exp(x - top), in [1, n], or 0 for a row of -inf
    log_total: jax.Array  # its logarithm


def _fenced(x: jax.Array, top: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x, its top and 0, such that min(x - top, 0) is as `_shift` says."""
    dtype = top.dtype
    largest = float(jnp.finfo(dtype).max)
    fence = jax.lax.optimization_barrier(jnp.where(top == jnp.inf, jnp.asarray(-largest, dtype), 0))
    return as_type(x, dtype) + fence, jnp.clip(top, -largest, largest), fence * 0


def _shift(x: jax.Array, top: jax.Array) -> jax.Array:
    """x - top, in [-inf, 0], under every way of compiling it. With F the largest float:

    (1) x - top        NaN for infinite tops: top is clipped to +-F, so a row of -inf stays -inf
    (2) (x + fence) - top, the fence -F under a top of +inf: +inf gives 0 and every finite x at most -F. Under all other
        tops it is a zero that no compiler knows, nor adds to a known top. It takes up the multiply-add when x = z c is
        fused into this line: fma(z, c, 0) is the rounded x again, where fma(z, c, -top) is not 0 at the top, and
        overflows exp from 2^31
    (3) clipped at 0 (a zero of the row: XLA:CPU vectorises no sum behind a constant one), should x have been rounded
        otherwise here than under the maximum
    """
    x, top, zero = _fenced(x, top)
    return jnp.minimum(x - top, zero)


def _exp_shift(x: jax.Array, top: jax.Array) -> jax.Array:
    """exp(x - top) = exp(d) (1 + lost), where d = x - top rounded, by up to |d| half-ulps of the exponential.

    What is lost is found by taking the larger of x and -top from d first (Dekker's two-sum). All is clipped, to be
    finite where exp(d) is 0. The difference of 16-bit logits is hardly rounded in float32.
    """
    if x.dtype.itemsize == 2:
        return jnp.exp(_shift(x, top))
    x, top, zero = _fenced(x, top)
    large = zero + float(jnp.finfo(top.dtype).max) / 4
    d = jnp.minimum(x - top, zero)
    e, d = jnp.exp(d), jnp.maximum(d, -large)
    x, minus_top = jnp.clip(x, -large, large), jnp.clip(-top, -large, large)
    return e + e * (jnp.maximum(x, minus_top) - (d - jnp.minimum(x, minus_top)))


FEW, SEVERAL = 10, 32  # classes, of which XLA:CPU vectorises no sum


def _above_one(e: jax.Array) -> jax.Array:
    """sum e - 1 of a row that has a 1, by the sum of the smaller ones and the count of the others: each of many small
    ones, added to the 1, would be rounded alike. Few are summed in one loop, and several in pairs, which is faster and
    better than one by one."""
    small, tops = jnp.where(e >= 1, 0, e), jnp.where(e >= 1, jnp.ones_like(e), 0)
    n = e.shape[-1]
    if not isinstance(n, int) or n > SEVERAL:
        return (_sum(tops) - 1) + _sum(small)
    if n > FEW:
        return (_sum_in_pairs(tops) - 1) + _sum_in_pairs(small)
    zero = jnp.zeros((), e.dtype)
    rest, count = jax.lax.reduce((small, tops), (zero, zero), lambda a, b: (a[0] + b[0], a[1] + b[1]), (e.ndim - 1,))
    return ((count - 1) + rest)[..., None]


def _sum_in_pairs(x: jax.Array) -> jax.Array:
    terms = jnp.split(x, x.shape[-1], -1)
    while len(terms) > 1:
        odd = terms[len(terms) & ~1 :]
        terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)] + odd
    return terms[0]


def _rounded(x: jax.Array) -> jax.Array:
    """x. XLA may leave out the rounding of a 16-bit product that it fuses into one use of x and not into another, and
    the top would not be the largest of what is summed; it stores what is behind a barrier."""
    return _stored(x) if x.dtype.itemsize == 2 else x


@jax.custom_jvp
def _stored(x: jax.Array) -> jax.Array:
    return jax.lax.optimization_barrier(x)


@_stored.defjvp
def _stored_jvp(primals: tuple, tangents: tuple) -> tuple:
    return _stored(*primals), tangents[0]


def _parts(n: int) -> int:
    """Into how many parts a row is summed, so that the one that holds the top can be summed again without it."""
    if not isinstance(n, int):  # a symbol of jax.export
        return 1
    most = max(1, min(isqrt(n), n // 100))  # XLA:CPU is slow on shorter parts
    return next(d for d in range(most, 0, -1) if n % d == 0)


def _compensated_sum(parts: jax.Array) -> jax.Array:
    """[..., q, 1] to [..., 1] with what each addition rounds off (Knuth's two-sum). It has no derivative."""

    def add(a: tuple, b: tuple) -> tuple:
        s = a[0] + b[0]
        t = s - a[0]
        return s, (a[1] + b[1]) + ((a[0] - (s - t)) + (b[0] - t))

    zero = jnp.zeros((), parts.dtype)
    return sum(jax.lax.reduce((parts, jnp.zeros_like(parts)), (zero, zero), add, (parts.ndim - 2,)), zero)


@partial(jax.jit, static_argnames="keep")
def _stats(x: jax.Array, keep: bool) -> Stats:
    """log sum exp(x - top), with e = exp(x - top), which is 1 at the top:

    (1) log(sum e)        0 where the rest is below 6e-8
    (2) log1p(rest), rest the sum of all e but one of those that are 1, of parts of the row but for the part it is in

    With `keep`, e is written once, for the sum and for the slope that follows; a value alone never writes it.
    """
    top = as_type(jnp.max(x, -1, keepdims=True, initial=-jnp.inf), compute_type(x.dtype))
    q = _parts(x.shape[-1])
    if q == 1:
        rest = _above_one(_exp_shift(x, top))
    else:
        parted = (*x.shape[:-1], q, x.shape[-1] // q)
        # XLA:CPU writes what is reshaped before it is summed
        e = _exp_shift(x, top).reshape(parted) if keep else _exp_shift(x.reshape(parted), top[..., None])
        parts = _sum(e)
        holder = jnp.argmax(parts, -2, keepdims=True)
        held = jnp.take_along_axis(x.reshape(parted), holder, -2)[..., 0, :]
        holds = jax.lax.broadcasted_iota(holder.dtype, parts.shape, parts.ndim - 2) == holder
        rest = _above_one(_exp_shift(held, top)) + _compensated_sum(jnp.where(holds, 0, parts))
    return Stats(top, 1 + rest, _log1p(rest))


def with_stats(core: Callable, keep: bool = False) -> Callable:
    """core(x, ..., stats) as a function of (x, ...).

    The statistics are constants to the core, whose rule knows how they move with x. Where exp(x - top) is used again,
    in the value (`keep`) or in a slope, they keep it; for a value that is all they are for, they do not.
    """

    @jax.custom_jvp
    def function(x: jax.Array, *args: jax.Array) -> jax.Array:
        x = _rounded(x)
        return core(x, *args, _stats(x, keep))

    @partial(function.defjvp, symbolic_zeros=True)
    def rule(primals: tuple, tangents: tuple) -> tuple:
        moved = [i for i, t in enumerate(tangents) if not isinstance(t, SymbolicZero)]
        of = _stats(jax.lax.stop_gradient(_rounded(primals[0])), keep=True)

        def of_moved(*values: jax.Array) -> jax.Array:
            args: list[Any] = list(primals)
            for i, value in zip(moved, values, strict=True):
                args[i] = value
            return core(_rounded(args[0]), *args[1:], of)

        return jax.jvp(of_moved, tuple(primals[i] for i in moved), tuple(tangents[i] for i in moved))

    return function


# The cores --------------------------------------------------------------------------------------------------------


@jax.custom_jvp
@jax.jit
def _softmax(x: jax.Array, of: Stats) -> jax.Array:
    """exp(x - top) / total, and 0 in a row of -inf. 1 / total in two parts, i and i (1 - i total)."""
    total = jnp.where(of.total == 0, 1, of.total)
    inverse = 1 / total
    e = _exp_shift(x, of.top)
    inverse, more = jax.lax.optimization_barrier((inverse, inverse * _remainder(inverse, total)))
    return e * inverse + e * more


def _remainder(inverse: jax.Array, x: jax.Array) -> jax.Array:
    """1 - inverse x for an inverse of x that was rounded, of exact products (Dekker, 1971)."""
    (a, a_rest), (b, b_rest) = (_halves(y) for y in (inverse, x))
    return (((1 - a * b) - a * b_rest) - a_rest * b) - a_rest * b_rest


def _halves(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    info = jnp.finfo(x.dtype)
    high = jax.lax.reduce_precision(x, info.nexp, info.nmant // 2)
    return high, x - high


@jax.custom_jvp
@jax.jit
def _logsumexp(x: jax.Array, of: Stats) -> jax.Array:
    return (of.top + of.log_total)[..., 0]


@jax.custom_jvp
@jax.jit
def _logmeanexp(x: jax.Array, n: jax.Array, of: Stats) -> jax.Array:
    """top + log(total / n), which is the top for equal terms, where log total - log n has two roundings. n is given."""
    return (of.top + jnp.log(of.total / n))[..., 0]


@jax.custom_jvp
@jax.jit
def _log_softmax(x: jax.Array, of: Stats) -> jax.Array:
    return _shift(x, of.top) - jnp.where(of.total == 0, 0, of.log_total)


@jax.custom_jvp
@jax.jit
def _surprisal(x: jax.Array, label: jax.Array, of: Stats) -> jax.Array:
    """-log_softmax(x) at the label: +inf if its class is absent, NaN if it is not in [0, n)."""
    n = x.shape[-1]
    index = jnp.where((label >= 0) & (label < n), label, n)[..., None]
    x = as_type(x, of.top.dtype)
    shift = _shift(jnp.take_along_axis(x, index, -1, mode="fill", fill_value=jnp.nan), of.top)
    return jnp.where(shift == -jnp.inf, jnp.inf, of.log_total - shift)[..., 0]


# Their rules ------------------------------------------------------------------------------------------------------


@recomputed
def _softmax_slope(x: jax.Array, of: Stats, x_dot: jax.Array) -> jax.Array:
    """p (t - sum p t), the same with a = t - sum c t, for any c that sums to 1, in the place of t. c is

    (1) one-hot at a class with p > 1/2, of which a row has one at most: its own (1 - p) t is gone from a and the sum,
        and p a loses no digits of the others'
    (2) p in the other rows: a common part of all t is gone

    The sum of the slope is 0. Taking its share c again makes the map its own transpose: reverse mode keeps what forward
    mode keeps.
    """
    p, centre, t = _about_centre(x, of, x_dot)
    slope = p * (t - _sum_by_parts(p * t))
    return slope - centre * _sum(slope)


@recomputed
def _log_softmax_slope(x: jax.Array, of: Stats, x_dot: jax.Array) -> jax.Array:
    """t - sum p t in the same way, where the sum of the transpose's w - p sum w is 0."""
    p, _, t = _about_centre(x, of, x_dot)
    return jnp.where(of.total == 0, of.total, 1) * (t - _sum_by_parts(p * t))


def _about_centre(x: jax.Array, of: Stats, x_dot: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """p, c and t - sum c t, which is 0 where c is 1. That is said, and not subtracted: in reverse mode the hot class is
    then minus the sum of the others, where its own cotangent less the sum of all would cancel.

    No derivative depends on c.
    """
    p, t = _softmax(x, of), as_type(x_dot, of.top.dtype)
    confident, none = of.total < 2, jnp.zeros_like(p)
    hot = confident & (p > 0.5)
    centre = jax.lax.stop_gradient(jnp.where(confident, jnp.where(hot, 1, none), p))
    return p, centre, jnp.where(hot, 0, t - _sum(centre * t))


@_softmax.defjvp
def _softmax_jvp(primals: tuple, tangents: tuple) -> tuple:
    return _softmax(*primals), _softmax_slope(*primals, tangents[0])


@_log_softmax.defjvp
def _log_softmax_jvp(primals: tuple, tangents: tuple) -> tuple:
    return _log_softmax(*primals), _log_softmax_slope(*primals, tangents[0])


@recomputed
def _weighted_by_p(x: jax.Array, of: Stats, x_dot: jax.Array) -> jax.Array:
    return inner(_softmax(x, of), x_dot)


@_logsumexp.defjvp
def _logsumexp_jvp(primals: tuple, tangents: tuple) -> tuple:
    return _logsumexp(*primals), _weighted_by_p(*primals, tangents[0])


@_logmeanexp.defjvp
def _logmeanexp_jvp(primals: tuple, tangents: tuple) -> tuple:
    x, _, of = primals
    return _logmeanexp(*primals), _weighted_by_p(x, of, tangents[0])


@jax.custom_jvp
@jax.jit
def _miss(x: jax.Array, label: jax.Array, of: Stats, y: jax.Array) -> jax.Array:
    """p - onehot, the slope of the surprisal y; at the label, p - 1 comes from y = -log p."""
    y = y[..., None]
    scale = jnp.where(jnp.isnan(y), y, jnp.where(of.total == 0, of.total, 1))
    is_label = jax.lax.broadcasted_iota(label.dtype, x.shape, x.ndim - 1) == label[..., None]
    return jnp.where(is_label, -_complement(-y) * scale, _softmax(x, of) * scale)


@_miss.defjvp
def _miss_jvp(primals: tuple, tangents: tuple) -> tuple:
    """The slope of p, at the label too: how y moves is known."""
    x, _, of, y = primals
    slope = _softmax_slope(x, of, tangents[0])
    return _miss(*primals), jnp.where(jnp.isnan(y)[..., None], jnp.nan, slope)


@_surprisal.defjvp
def _surprisal_jvp(primals: tuple, tangents: tuple) -> tuple:
    @recomputed
    def tangent(x: jax.Array, label: jax.Array, of: Stats, y: jax.Array, x_dot: jax.Array) -> jax.Array:
        return inner(_miss(x, label, of, y), x_dot)

    y = _surprisal(*primals)
    return y, tangent(*primals, y, tangents[0])


softmax = with_stats(_softmax, keep=True)
log_softmax = with_stats(_log_softmax)
logsumexp = with_stats(_logsumexp)
logmeanexp = with_stats(_logmeanexp)
surprisal = with_stats(_surprisal)


# Sums with factors ------------------------------------------------------------------------------------------------


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
    """sign exp(x - y), the slope of y = log|sum b exp(x)| in a factor, and p = b times that in x; 0 if all b are."""
    y, sign = _signed_logsumexp(x, b)
    nothing = jnp.all(b == 0, -1)
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
    y_dot = jnp.zeros_like(y)
    if not isinstance(x_dot, SymbolicZero):
        y_dot += inner(_share(*primals), x_dot)
    if not isinstance(b_dot, SymbolicZero):
        y_dot += inner(_per_factor(*primals), b_dot)
    return (y, sign), (y_dot, jnp.zeros_like(sign))


def _moves(primals: tuple, tangents: tuple) -> tuple[jax.Array, ...]:
    """How a term moves, w = p x_dot + f b_dot with f = _per_factor, as both parts; the mask of the hot term, which has
    p > 1/2; the sum r of the other p, which is 1 - p there; and the sum of the other w."""
    p, zeros = _share(*primals), jnp.zeros_like(primals[0])
    x_dot, b_dot = tangents
    by_logit = zeros if isinstance(x_dot, SymbolicZero) else p * x_dot
    by_factor = zeros if isinstance(b_dot, SymbolicZero) else _per_factor(*primals) * b_dot
    hot = p > 0.5
    r, others = (_sum(jnp.where(hot, 0, a)) for a in (p, by_logit + by_factor))
    return by_logit, by_factor, hot, r, others


@partial(_share.defjvp, symbolic_zeros=True)
def _share_jvp(primals: tuple, tangents: tuple) -> tuple:
    """w - p sum w, which at the hot term is r w - p sum' w."""
    by_logit, by_factor, hot, r, others = _moves(primals, tangents)
    p, w = _share(*primals), by_logit + by_factor
    return p, jnp.where(hot, r * w - p * others, w - p * (_sum(jnp.where(hot, w, 0)) + others))


@partial(_per_factor.defjvp, symbolic_zeros=True)
def _per_factor_jvp(primals: tuple, tangents: tuple) -> tuple:
    """f (x_dot - sum w), which at the hot term is f (r x_dot - f b_dot - sum' w)."""
    by_logit, by_factor, hot, r, others = _moves(primals, tangents)
    f, x_dot = _per_factor(*primals), tangents[0]
    t = jnp.zeros_like(f) if isinstance(x_dot, SymbolicZero) else x_dot
    all_moves = _sum(jnp.where(hot, by_logit + by_factor, 0)) + others
    return f, f * jnp.where(hot, (r * t - by_factor) - others, t - all_moves)
