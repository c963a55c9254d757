"""Floor 1: the lead of an answer over another, the sigmoid of it, and their rules."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from stablelogits_jax._bivariate import _difference, _times
from stablelogits_jax._closed import _exp
from stablelogits_jax._core import core, define_slopes
from stablelogits_jax._double_float import in_one_loop, two_sum
from stablelogits_jax._univariate import _bell, _bell_slope, _softplus


@core
def _lead(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> jax.Array:
    """(a - b) - (c - d)
    (1) as written        long answers have large log-probabilities and small differences: three roundings
    (2) the two differences and their sum as pairs, the tails added last: right to 2^-46 of the differences in float32
    (3) by quarters, where a difference overflows; a and b at one infinity differ by 0, and so do c and d, or else a and
        c, and b and d
    """
    first, second = two_sum(a, -b), two_sum(d, -c)
    heads = two_sum(first.head, second.head)
    exact = heads.head + ((first.tail + second.tail) + heads.tail)
    a, b, c, d = (x / 4 for x in (a, b, c, d))
    quarters = _difference.closed(a, b) - _difference.closed(c, d)
    by_answer = _difference.closed(_difference.closed(a, c), _difference.closed(b, d))
    return jnp.where(jnp.isfinite(exact), exact, 4 * jnp.where(jnp.isnan(quarters), by_answer, quarters))


define_slopes(_lead, lambda *_: 1, lambda *_: -1, lambda *_: -1, lambda *_: 1)


def _score(lead: jax.Array, beta: jax.Array, margin: jax.Array) -> jax.Array:
    return _difference(_times(beta, lead), margin)


@core
def _surprise(lead: jax.Array, beta: jax.Array, margin: jax.Array, tilt: jax.Array) -> jax.Array:
    """softplus(-z) + t z with z = beta lead - margin; with t = s it is (1 - s) softplus(-z) + s softplus(z).

    Its terms are softplus(-|z|), and |z| times t or 1 - t: both are finite or +inf, and a t of 0 costs nothing.
    """
    z = _score(lead, beta, margin)
    size = jnp.abs(z)
    return in_one_loop(z, _softplus.closed(-size) + _times(jnp.where(z >= 0, tilt, 1 - tilt), size))


@cache
def _of_doubt(order: int, power: int) -> Any:
    """lead^power times a derivative of sigmoid(-z) in z. An infinite lead and what decays in it are multiplied in the
    value, where 0 is absence: a product rule would multiply one to a slope of 0."""

    @core
    def f(lead: jax.Array, beta: jax.Array, margin: jax.Array) -> jax.Array:
        z = _score(lead, beta, margin)
        y = _slope_of_doubt(order, z)
        for _ in range(power):
            y = _times.closed(lead, y)
        return y

    def in_lead(*of: jax.Array) -> jax.Array:
        by_score = _times(of[1], _of_doubt(order + 1, power)(*of))
        return power * _of_doubt(order, power - 1)(*of) + by_score if power else by_score

    define_slopes(
        f,
        in_lead,
        lambda *of: _of_doubt(order + 1, power + 1)(*of),
        lambda *of: -_of_doubt(order + 1, power)(*of),
    )
    return f


_closed_bell = core(_bell.closed)


@core
def _closed_sigmoid(x: jax.Array) -> jax.Array:
    """In closed form in every type, as its slopes are: x is a rounded product, whose digits a pair would not have."""
    e = _exp(-jnp.abs(x))
    share = 1 / (1 + e)
    return jnp.where(x >= 0, share, e * share)


define_slopes(_closed_bell, _bell_slope)
define_slopes(_closed_sigmoid, _closed_bell)


def _slope_of_doubt(order: int, z: jax.Array) -> jax.Array:
    if order == 0:
        return _closed_sigmoid(-z)
    return jax.jvp(partial(_slope_of_doubt, order - 1), (z,), (jnp.ones_like(z),))[1]


_doubt = _of_doubt(0, 0)


def _pull(lead: jax.Array, beta: jax.Array, margin: jax.Array, tilt: jax.Array) -> jax.Array:
    return _doubt(lead, beta, margin) - tilt


@core
def _pull_by_lead(lead: jax.Array, beta: jax.Array, margin: jax.Array, tilt: jax.Array) -> jax.Array:
    return _times.closed(lead, _pull(lead, beta, margin, tilt))


define_slopes(  # a pull of 0 has no slope, also in an infinite lead or in beta beside one
    _surprise,
    lambda lead, beta, margin, tilt: -_times(beta, _pull(lead, beta, margin, tilt)),
    lambda *of: -_pull_by_lead(*of),
    _pull,
    lambda lead, beta, margin, tilt: _score(lead, beta, margin),
)
define_slopes(
    _pull_by_lead,
    lambda lead, beta, margin, tilt: (
        _pull(lead, beta, margin, tilt) + _times(beta, _of_doubt(1, 1)(lead, beta, margin))
    ),
    lambda lead, beta, margin, tilt: _of_doubt(1, 2)(lead, beta, margin),
    lambda lead, beta, margin, tilt: -_of_doubt(1, 1)(lead, beta, margin),
    lambda lead, beta, margin, tilt: -lead,
)
