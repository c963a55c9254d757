"""Floor 3: the loss on one logit, of K classes in an order."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from stablelogits_jax import _checks
from stablelogits_jax._bivariate import _log1mexp_between, _softplus_between
from stablelogits_jax._core import masked, recomputed


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
    0 or 1 is 0; here the loss is `log_sigmoid_diff` as a sum of three terms of one sign, of which one takes the
    distance of the cutpoints, whatever the logit.

    Args:
        logits: of any shape, one for each example.
        labels: integers in [0, K), of the same shape.
        cutpoints: K - 1 increasing numbers, the last axis of a shape that broadcasts to (\*logits.shape, K - 1); any
            type. Trained ones stay in order as a first one and the cumulated sum of `softplus` of parameters.
        where: examples to keep, of a shape that broadcasts to the logits'; the others get loss 0 and slope 0.
        ignore_index: examples with this label get loss 0 and slope 0, whatever their logits hold.

    Returns:
        Losses in [0, inf] of the logits' shape, float32 for 16-bit logits.
        Limits: at a logit of +inf 0 for the last class and +inf for the others, at -inf for the first; +inf between
        equal cutpoints, NaN between decreasing ones; NaN in value and slope for a label outside [0, K); NaN at NaN.

    Raises:
        TypeError: the logits are not float64, float32, bfloat16 or float16, the cutpoints not real, the labels or
            ignore_index not integers, or where is not boolean.
        ValueError: a shape is another, or there are no cutpoints.

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


@recomputed
def _ordinal(x: jax.Array, label: jax.Array, c: jax.Array) -> jax.Array:
    """softplus(low - x) + softplus(x - high) - log1mexp(high - low), in which an end is none: 0"""
    last = c.shape[-1]
    low, high = (jnp.take_along_axis(c, jnp.clip(at, 0, last - 1)[..., None], -1)[..., 0] for at in (label - 1, label))
    first, end = label == 0, label == last
    below, above = (masked(_softplus_between(*ends), ~none, 0) for ends, none in (((low, x), first), ((x, high), end)))
    between = ~(first | end)
    gap = _log1mexp_between(masked(high, between, 1), masked(low, between, 0))
    loss = below + above - masked(gap, between, 0)
    return jnp.where((label >= 0) & (label <= last), jnp.ones_like(loss), jnp.nan) * loss
