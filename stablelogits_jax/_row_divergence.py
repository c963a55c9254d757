"""Floor 2: T^2 KL(softmax(t / T) || softmax(x / T)), of two rows of logits, and its rules.

Rows are [..., n]. With p and q the two distributions and c = log(q / p), e = T c:

    KL = sum p phi(c)        phi(c) = exp(c) - 1 - c >= 0
    slope in x: T (q - p)        slope in t: -p (e - sum p e), in which any constant of the row may be added to e

Where |c| < 1, series in c take the place of differences that cancel; c is made of differences of the logits, as
differences of log q and log p, each of which is near -log n for a large T, have lost its digits.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from stablelogits_jax import _mesh, _rows, _stats
from stablelogits_jax._checks import as_type
from stablelogits_jax._closed import _exp_and_excess, _log_of_sum, _phi_over_square
from stablelogits_jax._core import jvp_of_moved, masked, moved, wide
from stablelogits_jax._double_float import Pair, at_most, two_sum
from stablelogits_jax._row_sums import inner
from stablelogits_jax._series import LN_2

# d = x - t about a mean -------------------------------------------------------------------------------------------


def beside(x: jax.Array, t: jax.Array, start: jax.Array | float) -> jax.Array:
    """d - start, to which what is rounded off d is added where it is small again: a mean of large numbers would be
    rounded. Two infinities of one sign are equal."""
    x, t = wide(x), wide(t)
    d = two_sum(x, -t)
    return jnp.where(jnp.isfinite(d.head), (d.head - start) + d.tail, jnp.where(x == t, -start, d.head))


@jax.custom_jvp
def _centred(x: jax.Array, t: jax.Array, weights: jax.Array) -> jax.Array:
    """d - sum w d with d = x - t, and 0 for classes of weight 0, beside the d of a class of the largest weight.
    Infinities of both signs have no mean."""
    none, d = weights == 0, beside(x, t, 0)
    infinite = jnp.isinf(d)
    top = (weights == jnp.max(weights, -1, keepdims=True)) & ~infinite
    start = jnp.max(jnp.where(top, d, -jnp.inf), -1, keepdims=True)
    start = jnp.where(jnp.isinf(start), 0, start)
    c = jnp.where(none, 0, beside(x, t, start))
    more = jnp.where(jnp.any(infinite & ~none, -1, keepdims=True), 0, jnp.sum(c * weights, -1, keepdims=True))
    return jnp.where(none, 0, c - more)


@partial(_centred.defjvp, symbolic_zeros=True)
def _centred_jvp(primals: tuple, tangents: tuple) -> tuple:
    """The weights are constants: whoever lets them move knows that no constant of the row counts."""
    c, weights = _centred(*primals), primals[2]
    x_dot, t_dot, _ = tangents
    d_dot = jnp.where(weights == 0, 0, moved(c, (x_dot, lambda dot: dot), (t_dot, lambda dot: -dot)))
    return c, jnp.where(weights == 0, 0, d_dot - jnp.sum(weights * d_dot, -1, keepdims=True))


# x / T ------------------------------------------------------------------------------------------------------------


@jax.custom_jvp
def _tempered(x: jax.Array, temperature: jax.Array) -> jax.Array:
    """(x - top) / T, which for every softmax is x / T. A T of inf, by which no -inf is divided, is F / 8: the inverse
    of F is subnormal."""
    x = _stats._rounded(x)
    top = as_type(jnp.max(x, -1, keepdims=True), temperature.dtype)
    return _stats._shift(x, top) / jnp.minimum(temperature, float(jnp.finfo(temperature.dtype).max) / 8)


@partial(_tempered.defjvp, symbolic_zeros=True)
def _tempered_jvp(primals: tuple, tangents: tuple) -> tuple:
    """The top, a constant of the row, does not move. An absent class has no slope in T. In reverse mode a slope of 0
    meets z, and not z / T, which may overflow."""
    temperature, (x_dot, temperature_dot) = primals[1], tangents
    z = _tempered(*primals)
    by_logits = x_dot, lambda dot: as_type(dot, z.dtype) / temperature
    by_temperature = temperature_dot, lambda dot: -(_present(z) * (dot / temperature))
    return z, moved(z, by_logits, by_temperature)


def _present(z: jax.Array) -> jax.Array:
    return masked(z, z > -jnp.inf, 0)


def _without_share(z: jax.Array) -> jax.Array:
    """Of a class whose exponential is 0 by far."""
    return z <= 2 * jnp.finfo(z.dtype).minexp * float(LN_2)


def _chances(a: jax.Array, temperature: jax.Array) -> jax.Array:
    """`_tempered` where softmax is taken of it. What has no share does not move: a mask by the lowest number of a type
    does so much that its products are beyond the largest."""
    z = _tempered(a, temperature)
    return masked(z, ~_without_share(z), -jnp.inf)


# The divergence ---------------------------------------------------------------------------------------------------


class _Parts(NamedTuple):
    """p and q are those of the row, times its `total`."""

    p: jax.Array
    q: jax.Array
    e: jax.Array
    c: jax.Array
    temperature: jax.Array
    total: jax.Array


def _parts(x: jax.Array, t: jax.Array, temperature: jax.Array) -> _Parts:
    """With X and P the exponentials of (x - top) / T and (t - top) / T, and d the difference of x - top and t - top,

        T (X - P) = P (d + d a phi(a) / a^2)        where |a| < 1 for a = d / T
        T log(sum X / sum P) = m - T (u - log1p(u))        for m = T sum (X - P) / sum P and u = m / T, where |u| < 1/2
        e = d - that        T log(q / p)

    x - top and t - top are in two parts: d has all digits where they are near, and no exponential is as many half-ulps
    off as its argument is large. Where t has no class, q is 0, too.
    """
    x, t = (wide(_stats._rounded(a)) for a in (x, t))
    temperature = jnp.minimum(temperature, float(jnp.finfo(x.dtype).max) / 8)  # whose inverse is normal
    shifts = s_x, s_t = _shifted(x), _shifted(t)
    inverse = 1 / temperature
    q, p = (_exp_and_excess(s.head / temperature)[0] for s in shifts)
    q, p = (y + (y * s.tail) * inverse for y, s in zip((q, p), shifts, strict=True))
    d = (s_x.head - s_t.head) + (s_x.tail - s_t.tail)
    a = d * inverse
    more = jnp.where(jnp.abs(a) < 1, p * (d + d * (a * _phi_over_square(a))), temperature * (q - p))
    total_q, total = (jnp.sum(y, -1, keepdims=True) for y in (q, p))
    of_q, of_p = (jnp.where(y == 0, 1, y) for y in (total_q, total))
    ratio, m = of_q / of_p, jnp.sum(more, -1, keepdims=True) / of_p
    m = jnp.where(jnp.isfinite(m), m, temperature * (ratio - 1))  # of parts beyond the largest float
    u = m * inverse
    log_ratio, rest = _log_of_sum(ratio, u)
    e = d - jnp.where(jnp.abs(u) < 0.5, m - temperature * rest, temperature * log_ratio)
    e = at_most(float(jnp.finfo(e.dtype).max), e)  # which is -inf alone where it is infinite: of a class that q lacks
    return _Parts(p, q * (total / of_q), e, e * inverse, temperature, of_p)


def _below_infinite(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x, of which all that is finite is absent under a top of +inf, and the top"""
    top = jnp.max(x, -1, keepdims=True, initial=-jnp.inf)
    return jnp.where(jnp.isinf(top) & (x < top), -jnp.inf, x), top


def _shifted(x: jax.Array) -> Pair:
    """x - top in two parts, the second 0 beside infinities"""
    x, top, zero = _stats._fenced(*_below_infinite(x))
    head, tail = two_sum(x, -top)
    return Pair(jnp.minimum(head, zero), jnp.where(jnp.isnan(tail), 0, tail))


@jax.custom_jvp
def _divergence(x: jax.Array, t: jax.Array, temperature: jax.Array) -> jax.Array:
    """T^2 sum p phi(c)"""
    p, q, e, c, temperature, total = _parts(x, t, temperature)
    of_p = jnp.where(p == 0, 0, p * e)
    parts = jnp.where(jnp.abs(c) < 1, of_p * (e * _phi_over_square(c)), temperature * (temperature * (q - p) - of_p))
    return (jnp.sum(parts, -1, keepdims=True) / total)[..., 0]


@jax.custom_jvp
def _excess(x: jax.Array, t: jax.Array, temperature: jax.Array) -> jax.Array:
    """T (q - p) = T p (exp(c) - 1)"""
    p, q, e, c, temperature, total = _parts(x, t, temperature)
    return jnp.where(jnp.abs(c) < 1, p * (e + e * (c * _phi_over_square(c))), temperature * (q - p)) / total


@partial(_excess.defjvp, symbolic_zeros=True)
def _excess_jvp(primals: tuple, tangents: tuple) -> tuple:
    """J_q x_dot - J_p t_dot, with J the slope of softmax; in T it is q - p - J_q x / T + J_p t / T."""
    x, t, temperature = primals
    x_dot, t_dot, temperature_dot = tangents
    x = masked(x, ~jnp.all(t == -jnp.inf, -1, keepdims=True), -jnp.inf)
    g = _excess(*primals)

    def of(a: jax.Array, a_dot: Any) -> jax.Array:
        z = _chances(a, temperature)
        by_logits = a_dot, lambda dot: _softmax_slope(z, as_type(dot, z.dtype))
        by_temperature = temperature_dot, lambda dot: dot * (_rows.softmax(z) - _softmax_slope(z, _present(z)))
        return moved(g, by_logits, by_temperature)

    return g, of(x, x_dot) - of(t, t_dot)


def _softmax_slope(z: jax.Array, z_dot: jax.Array) -> jax.Array:
    return jax.jvp(_rows.softmax, (z,), (z_dot,))[1]


@jax.custom_jvp
def _pull(x: jax.Array, t: jax.Array, temperature: jax.Array) -> jax.Array:
    """p (d - sum p d), the slope of p along d = x - t, with d less its own at the top of t: a class of p > 1/2 has a d
    of 0 then, and nothing cancels. Without one d may be near another number in all classes but that, and the mean is
    taken off twice. Rows of which it is not finite, as an infinite class makes them, and derivatives are of the
    general form, which takes three times as long."""
    p, *_, total = _parts(x, t, temperature)
    barrier = jax.lax.optimization_barrier  # or XLA:CPU writes out what is made of x and t for each of the sums
    a, b = (wide(_stats._rounded(y)) for y in (x, t))
    a, top = _below_infinite(a)[0], jnp.max(b, -1, keepdims=True)
    at_top = barrier(jnp.max(jnp.where(b == top, a, -jnp.inf), -1, keepdims=True))
    of_x, of_t = two_sum(a, -at_top), two_sum(b, -top)
    d = jnp.where(p == 0, 0, (of_x.head - of_t.head) + (of_x.tail - of_t.tail))
    for _ in range(2):
        d = d - barrier(jnp.sum(p * d, -1, keepdims=True) / total)
    pull = p * d / total
    finite = jnp.isfinite(jnp.sum(pull, -1, keepdims=True))
    general = jax.lax.cond(jnp.all(finite), lambda *_: pull, _pull_in_general, x, t, temperature)
    return jnp.where(finite, pull, general)


@partial(_pull.defjvp, symbolic_zeros=True)
def _pull_jvp(primals: tuple, tangents: tuple) -> tuple:
    return _pull(*primals), jvp_of_moved(_pull_in_general, primals, tangents)[1]


def _pull_in_general(x: jax.Array, t: jax.Array, temperature: jax.Array) -> jax.Array:
    """p e. Classes of +inf compare as equal finite ones, beside which no other has a weight. Where d may be beyond the
    largest float, or its distance from the mean, an eighth of both is taken. A class that q lacks is to lose all of its
    share, infinitely, and the others are to have it, if there are any."""
    z = _chances(t, temperature)
    p, top = jax.lax.stop_gradient((_rows.softmax(z), jnp.max(x, -1, keepdims=True)))
    lacking = (p > 0) & jnp.where(top == jnp.inf, x < top, (x == -jnp.inf) & ~jnp.isnan(top))
    others = (p > 0) & ~lacking
    limit = jnp.where(lacking, -jnp.inf, jnp.where(others, jnp.inf, jnp.zeros_like(p)))
    limit = jnp.where(jnp.any(others, -1, keepdims=True), limit, 0)
    x, t = wide(x), wide(t)
    x = jnp.where(top == jnp.inf, jnp.where(x == jnp.inf, jnp.zeros_like(x), -jnp.inf), x)
    t = masked(t, t < jnp.inf, 0)
    largest = float(jnp.finfo(x.dtype).max)
    huge = jnp.any((largest / 8 < jnp.maximum(_size(x), _size(t))), -1, keepdims=True)
    part = jnp.where(huge, jnp.asarray(0.125, x.dtype), 1)
    e = _centred(part * x, part * t, p)
    e = jnp.where(huge & jnp.isfinite(e), jnp.clip(e, -largest / 8, largest / 8), e)
    return jnp.where(jnp.any(lacking, -1, keepdims=True), limit, _softmax_slope(z, e) / part)


def _size(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.isinf(x), 0, jnp.abs(jax.lax.stop_gradient(x)))


@partial(_divergence.defjvp, symbolic_zeros=True)
def _divergence_jvp(primals: tuple, tangents: tuple) -> tuple:
    """In T it is (2 T^2 KL - <T (q - p), x> + <p e, t>) / T."""
    x, t, temperature = primals
    x_dot, t_dot, temperature_dot = tangents
    y = _divergence(*primals)

    def in_temperature(dot: jax.Array) -> jax.Array:
        z_x, z_t = (_tempered(a, temperature) for a in (x, t))
        of_p = ~_without_share(z_t)
        z_x, z_t = _present(masked(z_x, of_p | ~_without_share(z_x), 0)), masked(z_t, of_p, 0)
        by_logits = inner(_excess(*primals), z_x) - inner(_pull(*primals), z_t)
        of_y = y / temperature[..., 0]
        return (of_y + (of_y - by_logits)) * dot[..., 0]

    by_logits = x_dot, lambda dot: inner(_excess(*primals), dot)
    by_teacher = t_dot, lambda dot: -inner(_pull(*primals), dot)
    return y, moved(y, by_logits, by_teacher, (temperature_dot, in_temperature))


def divergence(x: jax.Array, t: jax.Array, temperature: jax.Array) -> jax.Array:
    x, t, temperature = (_mesh.spread(a, x, t, temperature) for a in (x, t, temperature))
    return _divergence(x, t, jnp.broadcast_to(temperature[..., None], (*x.shape[:-1], 1)))
