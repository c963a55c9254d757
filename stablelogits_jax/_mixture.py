"""Floor 1: the cores of the Jensen-Shannon divergence, of a mixture m = b p + (1 - b) q, and their rules."""

from math import exp

import jax
import jax.numpy as jnp
import numpy as np

from stablelogits_jax._bivariate import _difference, _ratio, _times
from stablelogits_jax._closed import _exp_and_excess, _expm1_by_series, _log_of_sum
from stablelogits_jax._core import core, define_slopes
from stablelogits_jax._double_float import at_least


def _log_mean(d: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """log(a + b exp(d)) for a + b = 1. Both are given, as neither is right as 1 minus the other. Where the exponential
    is about to overflow, exp(s) is taken out, s = 80 in float32; and beyond exp(2 s) the a is left out of the sum."""
    s = 0.9 * float(np.log(jnp.finfo(d.dtype).max))
    far = d > s
    shift = jnp.where(far, s, jnp.zeros_like(d))
    e, more = _exp_and_excess(jnp.minimum(d, 2 * s) - shift)
    total = jnp.where(far, a * exp(-s), a) + b * e
    y = _log_of_sum(total, jnp.where(far, total - 1, b * more))[0] + (shift + jnp.maximum(d - 2 * s, 0))
    return jnp.where(b == 0, 0, jnp.where(a == 0, d, y))


@core
def _log_over_first(log_p: jax.Array, log_q: jax.Array, b: jax.Array) -> jax.Array:
    """u = log(m / p)"""
    return _log_mean(_difference.closed(log_q, log_p), b, 1 - b)


@core
def _log_over_second(log_p: jax.Array, log_q: jax.Array, b: jax.Array) -> jax.Array:
    """v = log(m / q)"""
    return _log_mean(_difference.closed(log_p, log_q), 1 - b, b)


def _parts(log_p: jax.Array, log_q: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """b p and (1 - b) q, times the same number where both may be flushed."""
    top = jnp.maximum(log_p, log_q)
    lift = jnp.where((top < -40) & (top > -jnp.inf), top, 0)
    return b * jnp.exp(log_p - lift), (1 - b) * jnp.exp(log_q - lift)


@core
def _first_share(log_p: jax.Array, log_q: jax.Array, b: jax.Array) -> jax.Array:
    """b p / m: exp(-u) would be as many ulps off as u is large."""
    first, second = _parts(log_p, log_q, b)
    return _ratio.closed(first, first + second)


@core
def _second_share(log_p: jax.Array, log_q: jax.Array, b: jax.Array) -> jax.Array:
    """(1 - b) q / m"""
    first, second = _parts(log_p, log_q, b)
    return _ratio.closed(second, first + second)


@core
def _contrast(log_p: jax.Array, log_q: jax.Array, b: jax.Array) -> jax.Array:
    """(p - q) / m = exp(-u) - exp(-v), of which the larger is factored out."""
    d = _difference.closed(log_p, log_q)
    log_ratio = jnp.minimum(_log_over_first.closed(log_p, log_q, b), _log_over_second.closed(log_p, log_q, b))
    return -jnp.sign(d) * _expm1_by_series(-jnp.abs(d)) * _finite_exp(-log_ratio)


def _finite_exp(x: jax.Array) -> jax.Array:
    """exp(x), at most the largest float: of a mixture that is the smaller one alone, beside a weight of 0."""
    return jnp.exp(jnp.minimum(x, float(np.log(jnp.finfo(x.dtype).max)) - 1e-5))


def _product(log_p: jax.Array, log_q: jax.Array, b: jax.Array) -> jax.Array:
    """p q / m^2"""
    return _finite_exp(-(_log_over_first(log_p, log_q, b) + _log_over_second(log_p, log_q, b)))


@core
def _square_over_mixture(log_p: jax.Array, log_q: jax.Array, b: jax.Array) -> jax.Array:
    """(p - q)^2 / m = (h (1 - l / h)) (1 - l / h) h / m, with h the larger of p and q and l the other. What the last
    factor is above the largest float is multiplied to h."""
    log_ratio = jnp.minimum(_log_over_first.closed(log_p, log_q, b), _log_over_second.closed(log_p, log_q, b))
    above = jnp.maximum(-log_ratio - float(np.log(jnp.finfo(log_p.dtype).max)) + 1e-5, 0)
    gap = _expm1_by_series(-jnp.abs(_difference.closed(log_p, log_q)))
    return (jnp.exp(jnp.maximum(log_p, log_q)) * jnp.exp(above) * gap) * (gap * _finite_exp(-log_ratio))


def _of_shares(log_p: jax.Array, log_q: jax.Array, b: jax.Array) -> jax.Array:
    return _first_share(log_p, log_q, b) * _second_share(log_p, log_q, b)


define_slopes(_log_over_first, lambda *x: -_second_share(*x), _second_share, _contrast)
define_slopes(_log_over_second, _first_share, lambda *x: -_first_share(*x), _contrast)
define_slopes(_first_share, _of_shares, lambda *x: -_of_shares(*x), _product)
define_slopes(_second_share, lambda *x: -_of_shares(*x), _of_shares, lambda *x: -_product(*x))
define_slopes(_contrast, _product, lambda *x: -_product(*x), lambda *x: -_contrast(*x) * _contrast(*x))


def _to_mixture(log_p: jax.Array, log_q: jax.Array, b: jax.Array) -> tuple[jax.Array, ...]:
    """p phi(u) and q phi(v), that of the larger of p and q first, and their weights. With h the larger, of weight w,
    and l = h e of weight v, f = m / h = 1 - v (1 - e), t = 1 - l / m = w (1 - e) / f and psi(s) = s - log(1 + s):

    (1) m - h - h u and m - l - l v        cancel near p = q
    (2) h psi(f - 1) and m (t^2 - (l / m) psi(-t))        which is l phi(v) with nothing in it that overflows
    """
    first_is_high, least = log_p > log_q, float(jnp.finfo(log_p.dtype).min)
    high = at_least(least, jnp.where(first_is_high, log_p, log_q))
    low = at_least(least, jnp.where(first_is_high, log_q, log_p))
    w, v = jnp.where(first_is_high, b, 1 - b), jnp.where(first_is_high, 1 - b, b)
    (h, _), (e, more) = _exp_and_excess(high), _exp_and_excess(low - high)
    f = jnp.maximum(w + v * e, float(jnp.finfo(h.dtype).tiny))
    inverse = jnp.maximum(1 / f, 0)  # or XLA would write out a quotient that is used twice
    t, share = -w * more * inverse, e * inverse
    second = t * t - share * _log_of_sum(share, -t)[1]
    return h * _log_of_sum(f, v * more)[1], h * (f * second), w, v


@core
def _js(log_p: jax.Array, log_q: jax.Array, b: jax.Array) -> jax.Array:
    """b p log(p / m) + (1 - b) q log(q / m) = b p phi(u) + (1 - b) q phi(v): what is not logarithm adds up to 0."""
    first, second, w, v = _to_mixture(log_p, log_q, b)
    return w * first + v * second


@core
def _js_in_weight(log_p: jax.Array, log_q: jax.Array, b: jax.Array) -> jax.Array:
    """p phi(u) - q phi(v) = p log(p / m) - q log(q / m) - p + q. Of a mixture that is l alone, log f = log(l / h) is
    known where f is flushed."""
    first, second, w, _ = _to_mixture(log_p, log_q, b)
    h, apart = jnp.exp(jnp.maximum(log_p, log_q)), jnp.abs(_difference.closed(log_p, log_q))
    flushed = jnp.maximum(apart + float(np.log(jnp.finfo(h.dtype).tiny)), 0)
    first = first + jnp.where(w == 0, _times.closed(h, flushed), 0)
    return jnp.where(log_p > log_q, first - second, second - first)


@core
def _first_term(log_p: jax.Array, log_q: jax.Array, b: jax.Array) -> jax.Array:
    """b u, of slope u + b (p - q) / m in b: a product rule of p b u would flush p b, which (p - q) / m makes up for."""
    return _times.closed(b, _log_over_first.closed(log_p, log_q, b))


@core
def _second_term(log_p: jax.Array, log_q: jax.Array, b: jax.Array) -> jax.Array:
    """(1 - b) v"""
    return _times.closed(1 - b, _log_over_second.closed(log_p, log_q, b))


def _first_in_weight(log_p: jax.Array, log_q: jax.Array, b: jax.Array) -> jax.Array:
    """0 of an absent class: all that it multiplies is 0, and p log p goes to 0"""
    slope = _log_over_first(log_p, log_q, b) + _times(b, _contrast(log_p, log_q, b))
    return jnp.where(log_p == -jnp.inf, 0, slope)


def _second_in_weight(log_p: jax.Array, log_q: jax.Array, b: jax.Array) -> jax.Array:
    slope = _times(1 - b, _contrast(log_p, log_q, b)) - _log_over_second(log_p, log_q, b)
    return jnp.where(log_q == -jnp.inf, 0, slope)


define_slopes(
    _first_term,
    lambda log_p, log_q, b: -_times(b, _second_share(log_p, log_q, b)),
    lambda log_p, log_q, b: _times(b, _second_share(log_p, log_q, b)),
    _first_in_weight,
)
define_slopes(
    _second_term,
    lambda log_p, log_q, b: _times(1 - b, _first_share(log_p, log_q, b)),
    lambda log_p, log_q, b: -_times(1 - b, _first_share(log_p, log_q, b)),
    _second_in_weight,
)
define_slopes(
    _js,
    lambda log_p, log_q, b: -_times(jnp.exp(log_p), _first_term(log_p, log_q, b)),
    lambda log_p, log_q, b: -_times(jnp.exp(log_q), _second_term(log_p, log_q, b)),
    _js_in_weight,
)
define_slopes(  # and -(p - q)^2 / m
    _js_in_weight,
    lambda log_p, log_q, b: -_times(jnp.exp(log_p), _first_in_weight(log_p, log_q, b)),
    lambda log_p, log_q, b: -_times(jnp.exp(log_q), _second_in_weight(log_p, log_q, b)),
    lambda *x: -_square_over_mixture(*x),
)
define_slopes(
    _square_over_mixture,
    lambda log_p, log_q, b: _square_slope(log_p, log_q, b),
    lambda log_p, log_q, b: _square_slope(log_q, log_p, 1 - b),
    lambda *x: -_times(_square_over_mixture(*x), _contrast(*x)),
)


def _square_slope(log_p: jax.Array, log_q: jax.Array, b: jax.Array) -> jax.Array:
    """p (p - q) / m (2 - b (p - q) / m), in log p; in log q it is the same of q and p."""
    contrast = _contrast(log_p, log_q, b)
    return _times(jnp.exp(log_p), _times(contrast, 2 - _times(b, contrast)))
