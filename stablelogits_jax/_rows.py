"""Floor 2: the cores of the functions along one axis, and their rules. Rows are [..., n], see `_stats.py`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from stablelogits_jax._bivariate import _times
from stablelogits_jax._checks import as_type
from stablelogits_jax._core import core, define_slopes, moved, recomputed
from stablelogits_jax._double_float import halves
from stablelogits_jax._row_sums import sums
from stablelogits_jax._stats import Stats, _shift, exponentials, kept, with_stats

# The cores --------------------------------------------------------------------------------------------------------


@jax.custom_jvp
@jax.jit
def _softmax(x: jax.Array, of: Stats) -> jax.Array:
    """exp(x - top) / total, and 0 in a row of -inf."""
    inverse, more = inverse_of_whole(of)
    e = exponentials(x, of.top)
    return e * inverse + e * more


def inverse_of_whole(of: Stats) -> tuple[jax.Array, jax.Array]:
    """1 / sum e, of exponentials in the row's unit, in two parts, i and i (1 - i sum e)."""
    whole = of.divisor
    inverse = 1 / whole
    return jax.lax.optimization_barrier((inverse, inverse * (remainder(inverse, whole) - inverse * of.lost)))


def remainder(inverse: jax.Array, x: jax.Array) -> jax.Array:
    """1 - inverse x for an inverse of x that was rounded, of exact products (Dekker, 1971)."""
    (a, a_rest), (b, b_rest) = (halves(y) for y in (inverse, x))
    return (((1 - a * b) - a * b_rest) - a_rest * b) - a_rest * b_rest


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
    return _shift(x, of.top) - of.finite_log_total


def _mean_shift(x: jax.Array, of: Stats) -> jax.Array:
    """sum p (x - top), [..., 1], of terms <= 0, to which an absent class adds 0"""

    def terms(e: jax.Array, x: jax.Array, top: jax.Array) -> jax.Array:
        return jnp.where(e == 0, 0, e * _shift(x, top))

    divisor = of.divisor
    return of.whole(sums(terms, [exponentials(x, of.top), x], [of.top])) / divisor


@jax.custom_jvp
@jax.jit
def _entropy(x: jax.Array, of: Stats) -> jax.Array:
    """-sum p log p = log total - sum p (x - top), of which no term is negative"""
    return (of.finite_log_total - _mean_shift(x, of))[..., 0]


@jax.custom_jvp
@jax.jit
def _excess_surprisal(x: jax.Array, of: Stats) -> jax.Array:
    """-log p less the entropy, its mean; 0 for an absent class"""
    shift = _shift(x, of.top)
    return jnp.where(shift == -jnp.inf, 0, _mean_shift(x, of) - shift)


# Their rules ------------------------------------------------------------------------------------------------------


@recomputed
def _softmax_slope(x: jax.Array, of: Stats, x_dot: jax.Array, factor: jax.Array | float = 1.0) -> jax.Array:
    """p (t - sum p t), times a factor of the row, the same with a = t - sum c t, for any c that sums to 1, in the place
    of t. c is

    (1) one-hot at a class with p > 1/2, of which a row has one at most, p being rounded to 1/2 or not: its own
        (1 - p) t is gone from a and the sum, and p a loses no digits of the others'
    (2) p in the other rows: a common part of all t is gone

    The sum of the slope is 0. Taking its share c again makes the map its own transpose: reverse mode keeps what forward
    mode keeps. So it does with a factor between the two, which would round a common part of what it meets first.
    """
    p, centre, t = _about_centre(x, of, x_dot)
    slope = factor * p * (t - of.sum(p * t))
    return slope - centre * of.whole(jnp.sum(slope, -1, keepdims=True))


@recomputed
def _log_softmax_slope(x: jax.Array, of: Stats, x_dot: jax.Array) -> jax.Array:
    """t - sum p t in the same way, where the sum of the transpose's w - p sum w is 0."""
    p, _, t = _about_centre(x, of, x_dot)
    return jnp.where(of.total == 0, of.total, 1) * (t - of.sum(p * t))


def _about_centre(x: jax.Array, of: Stats, x_dot: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """p, c and t - sum c t, which is 0 where c is 1. That is said, and not subtracted: in reverse mode the hot class is
    then minus the sum of the others, where its own cotangent less the sum of all would cancel.

    No derivative depends on c.
    """
    p, t = _softmax(x, of), as_type(x_dot, of.top.dtype)
    confident, none = of.total < 2, jnp.zeros_like(p)
    hot = confident & (p >= 0.5)
    centre = jax.lax.stop_gradient(jnp.where(confident, jnp.where(hot, 1, none), p))
    return p, centre, jnp.where(hot, 0, t - of.whole(jnp.sum(centre * t, -1, keepdims=True)))


@_softmax.defjvp
def _softmax_jvp(primals: tuple, tangents: tuple) -> tuple:
    return _softmax(*primals), _softmax_slope(*primals, tangents[0])


@_log_softmax.defjvp
def _log_softmax_jvp(primals: tuple, tangents: tuple) -> tuple:
    return _log_softmax(*primals), _log_softmax_slope(*primals, tangents[0])


@recomputed
def _weighted_by_p(x: jax.Array, of: Stats, x_dot: jax.Array) -> jax.Array:
    return of.inner(_softmax(x, of), x_dot)


@_logsumexp.defjvp
def _logsumexp_jvp(primals: tuple, tangents: tuple) -> tuple:
    return _logsumexp(*primals), _weighted_by_p(*primals, tangents[0])


@_logmeanexp.defjvp
def _logmeanexp_jvp(primals: tuple, tangents: tuple) -> tuple:
    x, _, of = primals
    return _logmeanexp(*primals), _weighted_by_p(x, of, tangents[0])


@recomputed
def _entropy_slope(x: jax.Array, of: Stats, x_dot: jax.Array) -> jax.Array:
    return of.inner(_softmax(x, of) * _excess_surprisal(x, of), x_dot)


@_entropy.defjvp
def _entropy_jvp(primals: tuple, tangents: tuple) -> tuple:
    return _entropy(*primals), _entropy_slope(*primals, tangents[0])


@_excess_surprisal.defjvp
def _excess_surprisal_jvp(primals: tuple, tangents: tuple) -> tuple:
    x, of = primals
    slope = _log_softmax_slope(x, of, tangents[0]) + _entropy_slope(x, of, tangents[0])[..., None]
    return _excess_surprisal(x, of), -slope


softmax = with_stats(_softmax, kept)
log_softmax = with_stats(_log_softmax)
logsumexp = with_stats(_logsumexp)
logmeanexp = with_stats(_logmeanexp)
entropy = with_stats(_entropy, kept)


# Losses -----------------------------------------------------------------------------------------------------------


@core
def _of_share(z: jax.Array, y: jax.Array, p: jax.Array) -> jax.Array:
    """2 z y p, where p = 0 is absence: of a class beside +inf, of all in a row of -inf. Where y, a logsumexp, is
    infinite, p does not move."""
    return jnp.where(p == 0, 0, _times.closed(2 * z, y) * p)


define_slopes(
    _of_share,
    lambda z, y, p: _of_share(jnp.ones_like(z), y, p),
    lambda z, y, p: 2 * z * p,
    lambda z, y, p: jnp.where(jnp.isinf(y), 0, 2 * z * y),
)


def z_loss_of(log_normalizer: Callable, chances: Callable) -> Any:
    """z log_normalizer^2 as a function of x, z and what both functions of x are given, and its rule: 2 z log_normalizer
    p in x."""

    @jax.custom_jvp
    @jax.jit
    def _z_loss(x: jax.Array, z: jax.Array, *given: Any) -> jax.Array:
        y = log_normalizer(x, *given)
        return _times(_times(z, y), y)

    @recomputed
    def in_logits(x: jax.Array, z: jax.Array, given: tuple, x_dot: jax.Array) -> jax.Array:
        slope = _of_share(z[..., None], log_normalizer(x, *given)[..., None], chances(x, *given))
        return given[-1].inner(slope, x_dot)

    @partial(_z_loss.defjvp, symbolic_zeros=True)
    def _z_loss_jvp(primals: tuple, tangents: tuple) -> tuple:
        (x, z, *given), (x_dot, z_dot, *_), loss = primals, tangents, _z_loss(*primals)
        in_z = z_dot, lambda dot: dot * _z_loss(x, jnp.ones_like(z), *given)
        return loss, moved(loss, (x_dot, partial(in_logits, x, z, given)), in_z)

    return _z_loss


_z_loss = z_loss_of(_logsumexp, _softmax)
z_loss = with_stats(_z_loss)
