"""Floor 1: the cores of the divergences, one class's part of each, and their rules.

A part that is not negative is p phi(d) with phi(d) = exp(d) - 1 - d, p a probability and p exp(d) another.
"""

import jax
import jax.numpy as jnp
import numpy as np

from stablelogits_jax._bivariate import _difference, _times
from stablelogits_jax._closed import _exp_and_excess, _expm1_by_series, _log_of_sum, _phi_over_square
from stablelogits_jax._core import core, define_slopes
from stablelogits_jax._univariate import _bell, _bell_slope, _inverse, _log, _log_times_e, _sigmoid


def _phi(p: jax.Array, d: jax.Array, more: jax.Array) -> jax.Array:
    """p phi(d), with p (exp(d) - 1) given: more - p d cancels for small d, for which it is by a series of h = d / 2

    phi(2 h) = (exp(h) - 1)^2 + 2 phi(h)        whose terms are positive
    """
    h = d / 2
    g = _phi_over_square(h)
    small = p * (d * d * (((1 + h * g) ** 2 + 2 * g) / 4))
    return jnp.where(jnp.abs(d) < 2, small, more - jnp.where(p == 0, 0, p * d))


def _exp_anew(x: jax.Array) -> jax.Array:
    """exp(x), for a value. XLA:CPU would write out an exponential that a slope takes as well; computing it twice is
    faster than to write and read it."""
    return jnp.exp(jnp.maximum(x, jnp.finfo(x.dtype).min))


# Targets and log-predictions --------------------------------------------------------------------------------------


@core
def _kl(t: jax.Array, log_q: jax.Array) -> jax.Array:
    """t (log t - log q), and 0 for a t of 0, which in a comparison a subnormal one is, too."""
    return jnp.where((t == 0) & ~jnp.isnan(log_q), 0, t * (jnp.log(t) - log_q))


@core
def _kl_of_logs(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """p (log p - log q), and 0 for a p of 0, and for equal logs, be they infinite"""
    p = _exp_anew(log_p)
    none = ((p == 0) & ~jnp.isnan(log_q)) | (log_p == log_q)
    return jnp.where(none, 0, p * (log_p - log_q))


@core
def _generalized_kl(t: jax.Array, log_q: jax.Array) -> jax.Array:
    """t (log t - log q) + q - t = t phi(log q - log t)"""
    d, q = _difference.closed(log_q, jnp.log(t)), _exp_anew(log_q)
    y = _phi(t, d, q - t)
    above = (log_q > float(np.log(jnp.finfo(q.dtype).max))) & (d > 1)  # where t d may be, too
    return jnp.where(above | jnp.isnan(y) & (t >= 0) & ~jnp.isnan(log_q), jnp.inf, y)


@core
def _excess(t: jax.Array, log_q: jax.Array) -> jax.Array:
    """q - t, of a sure class (q - 1) + (1 - t), both of which are small"""
    sure = (jnp.abs(log_q) < 0.5) & (t > 0.5)
    less = log_q + log_q * log_q * _phi_over_square(log_q)
    return jnp.where(sure, less, jnp.exp(log_q)) + jnp.where(sure, 1 - t, -t)


@core
def _log_ratio(t: jax.Array, log_q: jax.Array) -> jax.Array:
    """log t - log q"""
    return _difference.closed(_log(t), log_q)


@core
def _log_ratio_times_e(t: jax.Array, log_q: jax.Array) -> jax.Array:
    return _difference.closed(_log_times_e(t), log_q)


for f in (_log_ratio, _log_ratio_times_e):
    define_slopes(f, lambda t, log_q: _inverse(t), lambda t, log_q: -1, steep=True)
define_slopes(_excess, lambda t, log_q: -1, lambda t, log_q: jnp.exp(log_q))
define_slopes(_kl, _log_ratio_times_e, lambda t, log_q: -t, steep=True)
define_slopes(
    _kl_of_logs,
    lambda log_p, log_q: _times(jnp.exp(log_p), 1 + _difference(log_p, log_q)),
    lambda log_p, log_q: -jnp.exp(log_p),
)
define_slopes(_generalized_kl, _log_ratio, _excess, steep=True)


# Two logits -------------------------------------------------------------------------------------------------------


@core
def _sigmoid_difference(a: jax.Array, b: jax.Array) -> jax.Array:
    """sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)) for a >= b"""
    high, low = jnp.maximum(a, b), jnp.minimum(a, b)
    share = _sigmoid(high) * _sigmoid(-low)
    return jnp.where(a < b, share, -share) * _expm1_by_series(-_difference.closed(high, low))


@core
def _bernoulli_kl(x: jax.Array, y: jax.Array) -> jax.Array:
    """p phi(d - s) + (1 - p) phi(-s) with d = y - x and s = softplus(y) - softplus(x), of logits turned so that
    p <= 1/2: few digits cancel in d - s, which is log(q / p), then. And s is

    (1) log(1 + p (exp(d) - 1))        of which exp(d) may overflow, and p underflow
    (2) max(y, 0) + log(1 + g / (1 + exp(x))) with g = exp(-|y|) - exp(-|x|), the larger of the two times 1 - exp(-||x|
        - |y||): all exponents are negative, 1 + g / (1 + exp(x)) is in [1/2, 2], and nothing cancels

    q - p is g / ((1 + exp(x)) (1 + exp(-|y|))) for y < 0, and has 1 - exp(x - y) in the place of g for y >= 0.
    """
    y = jnp.where(x > 0, -y, y)
    a, b = jnp.abs(x), jnp.abs(y)
    ratio, less = _exp_and_excess(-jnp.abs(_difference.closed(a, b)))
    larger, _ = _exp_and_excess(-jnp.minimum(a, b))
    smaller, gap = larger * ratio, larger * less
    e_x, e_y = jnp.where(a < b, larger, smaller), jnp.where(a < b, smaller, larger)
    not_p = 1 / (1 + e_x)
    gap = jnp.where(a < b, gap, -gap)
    log, _ = _log_of_sum((1 + e_y) * not_p, gap * not_p)
    s, more = jnp.maximum(y, 0) + log, jnp.where(y < 0, gap, 1 - e_x * e_y) * not_p / (1 + e_y)
    kl = _phi(e_x * not_p, _difference.closed(y, -a) - s, more) + _phi(not_p, -s, -more)
    return jnp.where(jnp.isinf(y) & jnp.isfinite(x), jnp.inf, kl)


define_slopes(_sigmoid_difference, lambda a, b: _bell(a), lambda a, b: -_bell(b))


@core
def _kl_slope(x: jax.Array, y: jax.Array) -> jax.Array:
    """(x - y) sigmoid(x) sigmoid(-x), of whose factors one may be infinite where another, or its slope, is 0"""
    return _times.closed(_bell(x), _difference.closed(x, y))


define_slopes(
    _kl_slope,
    lambda x, y: _times(_bell_slope(x), _difference(x, y)) + _bell(x),
    lambda x, y: -_bell(x),
)
define_slopes(
    _bernoulli_kl,
    _kl_slope,
    lambda x, y: _sigmoid_difference(y, x),
)
