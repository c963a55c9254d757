"""Floor 3: the loss on one logit, of K classes in an order."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from stablelogits_jax import _checks
from stablelogits_jax._bivariate import _bell_between, _bose_between
from stablelogits_jax._closed import _exp, _exp_and_excess
from stablelogits_jax._core import core, define_slopes, masked, recomputed
from stablelogits_jax._double_float import fast_two_sum, opaque, two_sum


def ordinal_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    cutpoints: ArrayLike,
    *,
    where: ArrayLike | None = None,
    ignore_index: int | None = None,
) -> jax.Array:
    r"""The ordered logistic loss, $-\log(\sigma(x - c_{y-1}) - \sigma(x - c_y))$, with $c_{-1} = -\infty$ and
    $c_{K-1} = \infty$.

    A logistic variable around the logit falls between the cutpoints of its class. The difference of two sigmoids near
    0 or 1 is 0; here the loss is `log_sigmoid_diff` as terms of one sign, of which one takes the distance of the
    cutpoints, whatever the logit.

    Args:
        logits: of any shape, one for each example.
        labels: integers in [0, K), of the same shape.
        cutpoints: K - 1 increasing numbers, the last axis of a shape that broadcasts to (\*logits.shape, K - 1); any
            type. An infinite one is beyond every logit, infinite ones too. Trained ones stay in order as a first one
            and the cumulated sum of `softplus` of parameters.
        where: examples to keep, of a shape that broadcasts to the logits'; the others get loss 0 and slope 0.
        ignore_index: examples with this label get loss 0 and slope 0, whatever their logits hold.

    Returns:
        Losses in [0, inf] of the logits' shape, float32 for 16-bit logits.
        Limits: at a logit of +inf 0 for the last class and +inf for the others, at -inf for the first; +inf between
        equal cutpoints, NaN between decreasing ones; NaN in value and slope for a label outside [0, K); NaN at NaN.

    Raises:
        TypeError: the logits are not float64, float32, bfloat16 or float16, the cutpoints not real, the labels or
            ignore_index not integers, or where is not boolean.
        ValueError: the labels, where or cutpoints have another shape, or there are no cutpoints.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> loss = sl.ordinal_cross_entropy(jnp.array([0., 0., 50.]), jnp.array([0, 1, 2]), jnp.array([-1., 1.]))
        >>> print(" ".join(f"{l:.4g}" for l in loss))
        1.313 0.7719 5.243e-22

    References:
        McCullagh, `Regression Models for Ordinal Data`, 1980.
        `ordered_logistic` of Stan.
    """
    name = "ordinal_cross_entropy"
    (x,), dtype = _checks.floating(name, logits=logits)
    c = _checks.real(name, "cutpoints", cutpoints, _checks.compute_type(dtype))
    given, labels = labels, _checks.integer(name, "labels", labels, x.shape)
    _checks.not_empty(name, "cutpoints", c)
    c = _checks.beside(name, "cutpoints", c, (*x.shape, c.shape[-1]))
    counted = _checks.mask(name, where, x.shape)
    ignored = _checks.ignored(name, given, ignore_index)
    if ignored is not None:
        counted = ~ignored if counted is None else counted & ~ignored
    if counted is not None:
        x, labels = masked(x, counted, 0), jnp.where(counted, labels, 0)
        c = masked(jnp.broadcast_to(c, (*x.shape, c.shape[-1])), counted[..., None], 0)
    loss = _ordinal(_checks.as_type(x, c.dtype), labels, c)
    return loss if counted is None else masked(loss, counted, 0)


def _beyond(x: jax.Array, cutpoint: jax.Array) -> jax.Array:
    """x - cutpoint. An infinite cutpoint, as that of an end class is, lies beyond every logit, infinite ones too."""
    return jnp.where(jnp.isinf(cutpoint), -cutpoint, x - cutpoint)


def _decay(x: jax.Array, cutpoint: jax.Array) -> jax.Array:
    """exp(-|x - cutpoint|) with what the difference has lost."""
    d = _beyond(x, cutpoint)
    e, lost = _exp(-jnp.abs(d)), jnp.where(jnp.isinf(d), 0, two_sum(x, -cutpoint).tail)
    return e - e * jnp.where(d < 0, -lost, lost)


def _gap(low: jax.Array, high: jax.Array) -> jax.Array:
    """low - high, -inf of an end class"""
    return jnp.where(low == -jnp.inf, low, jnp.where(high == jnp.inf, -high, low - high))


def _valid(y: jax.Array, x: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    return jnp.where(jnp.isnan(x), x, jnp.where(_gap(low, high) <= 0, y, jnp.nan))


@core
def _surprise_between(x: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """-log(sigmoid(x - low) - sigmoid(x - high)), with a = low - x, b = x - high, and the decays e = exp(-|a|),
    f = exp(-|b|) and g = exp(low - high):
    (1) as written        the difference of two sigmoids near 0 or 1 is 0
    (2) softplus(a) + softplus(b) - log(1 - g)        three logarithms, of one sign
    (3) max(a, 0) + max(b, 0) + log(1 + (e + f + e f + g) / (1 - g))
    """
    e, f = _decay(x, low), _decay(x, high)
    g, excess = _exp_and_excess(_gap(low, high))
    odds = jnp.minimum((e + f + (e * f + g)) / -excess, jnp.finfo(x.dtype).max)
    total, lost = fast_two_sum(opaque(1, x.dtype), odds)
    beyond = jnp.maximum(-_beyond(x, low), 0) + jnp.maximum(_beyond(x, high), 0)
    loss = beyond + (jnp.log(total) + lost / total)
    return _valid(jnp.where(excess == 0, jnp.inf, loss), x, low, high)


@core
def _slope_between(x: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """sigmoid(b) - sigmoid(a), of one quotient"""
    e, f = _decay(x, low), _decay(x, high)
    below, above = jnp.where(_beyond(x, low) <= 0, 1, e), jnp.where(_beyond(x, high) >= 0, 1, f)
    return _valid((above * (1 + e) - below * (1 + f)) / ((1 + e) * (1 + f)), x, low, high)


@core
def _above(x: jax.Array, cutpoint: jax.Array) -> jax.Array:
    """sigmoid(x - cutpoint)"""
    e = _decay(x, cutpoint)
    return jnp.where(jnp.isnan(x), x, jnp.where(_beyond(x, cutpoint) >= 0, 1, e) / (1 + e))


def _bell(x: jax.Array, cutpoint: jax.Array) -> jax.Array:
    return masked(_bell_between(x, cutpoint), ~jnp.isinf(cutpoint) | jnp.isnan(x), 0)


def _below_and_above(low: jax.Array, high: jax.Array) -> jax.Array:
    return masked(_bose_between(high, low), ~(jnp.isinf(low) | jnp.isinf(high)), 0)


define_slopes(_above, _bell, lambda x, cutpoint: -_bell(x, cutpoint))
define_slopes(
    _slope_between,
    lambda x, low, high: _bell(x, high) + _bell(x, low),
    lambda x, low, high: -_bell(x, low),
    lambda x, low, high: -_bell(x, high),
)
define_slopes(
    _surprise_between,
    _slope_between,
    lambda x, low, high: _above(-x, -low) + _below_and_above(low, high),
    lambda x, low, high: -(_above(x, high) + _below_and_above(low, high)),
)


@recomputed
def _ordinal(x: jax.Array, label: jax.Array, c: jax.Array) -> jax.Array:
    last = c.shape[-1]
    low, high = (jnp.take_along_axis(c, jnp.clip(at, 0, last - 1)[..., None], -1)[..., 0] for at in (label - 1, label))
    x = x + jnp.where((label >= 0) & (label <= last), jnp.zeros_like(x), jnp.nan)
    return _surprise_between(x, masked(low, label > 0, -jnp.inf), masked(high, label < last, jnp.inf))
