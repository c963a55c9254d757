"""Floor 3: losses on one logit, of two classes."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from stablelogits_jax import _checks
from stablelogits_jax._bivariate import _times
from stablelogits_jax._checks import as_type, compute_type
from stablelogits_jax._core import masked, recomputed
from stablelogits_jax._double_float import in_one_loop
from stablelogits_jax._univariate import _sigmoid, _softplus


def _logits_and_labels(function: str, logits: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """The labels in the type that is computed in; they may broadcast to the logits, never the other way round."""
    (x,), dtype = _checks.floating(function, logits=logits)
    y = _checks.real(function, "labels", labels, _checks.compute_type(dtype))
    return x, _checks.beside(function, "labels", y, x.shape)


def _kept(
    function: str, x: jax.Array, y: jax.Array, where: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Logits and labels, 0 where they are masked, so that nothing they hold reaches a gradient; and the mask."""
    mask = _checks.mask(function, where, x.shape)
    if mask is None:
        return x, y, None
    return masked(x, mask, 0), masked(jnp.broadcast_to(y, x.shape), mask, 0), mask


def _option(
    function: str, name: str, value: ArrayLike, x: jax.Array, mask: jax.Array | None, high: float = jnp.inf
) -> jax.Array:
    """A numeric option in the type that is computed in; of a masked example it reaches nothing."""
    given = _checks.option(function, name, value, x.shape, compute_type(x.dtype), high=high)
    return given if mask is None else masked(jnp.broadcast_to(given, x.shape), mask, 1)


def sigmoid_binary_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    pos_weight: ArrayLike | None = None,
    label_smoothing: ArrayLike = 0.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross entropy of a Bernoulli label, $-w y \log \sigma(x) - (1 - y) \log(1 - \sigma(x))$.

    The logarithm of a rounded sigmoid is -inf or loses its tail; here the loss is a sum of softplus(-x) and
    softplus(x), neither of which is negative.

    Args:
        logits: of any shape.
        labels: probabilities of the positive class, of a shape that broadcasts to the logits'; any type.
        pos_weight: the factor w of the positive term, of a shape that broadcasts to the logits'; None means 1.
        label_smoothing: s in [0, 1], of such a shape too: the labels become (1 - s) y + s / 2.
        where: examples to keep, of a shape that broadcasts to the logits'; the others get loss 0 and slope 0.

    Returns:
        Losses in [0, inf] of the logits' shape, float32 for 16-bit logits. The slope is sigmoid(x) - y for w = 1.
        Limits: at +-inf 0 where the label matches, +inf where it does not, slope sigmoid minus label; NaN at NaN.

    Raises:
        TypeError: the logits are not float64, float32, bfloat16 or float16, or where is not boolean.
        ValueError: labels, pos_weight or where would enlarge the logits, or a static option is out of range.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> loss = sl.sigmoid_binary_cross_entropy(jnp.array([50., -50.]), jnp.array([1, 1]))
        >>> print(f"{loss[0]:.4g} {loss[1]:.4g}")
        1.929e-22 50

    References:
        Goodfellow et al., [Deep Learning](http://www.deeplearningbook.org/contents/prob.html), 2016.
    """
    name = "sigmoid_binary_cross_entropy"
    x, y = _logits_and_labels(name, logits, labels)
    x, y, mask = _kept(name, x, y, where)
    weight = _one(x) if pos_weight is None else _option(name, "pos_weight", pos_weight, x, mask)
    none = _checks.is_number(label_smoothing, 0)
    s = 0 * _one(x) if none else _option(name, "label_smoothing", label_smoothing, x, mask, 1)
    loss = _cross_entropy(x, y, weight, s)
    return loss if mask is None else masked(loss, mask, 0)


def _one(x: jax.Array) -> jax.Array:
    """The weight 1, with the axes of `x` and none of its sizes."""
    return jnp.ones((1,) * x.ndim, compute_type(x.dtype))


def _shares(y: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of the positive class and the negative one: 1 less the first would round off a small s."""
    return (1 - s) * y + 0.5 * s, (1 - s) * (1 - y) + 0.5 * s


@jax.custom_jvp
@jax.jit
def _cross_entropy(x: jax.Array, y: jax.Array, weight: jax.Array, s: jax.Array) -> jax.Array:
    """w a softplus(-x) + b softplus(x), two terms of one sign that have log1p(exp(-|x|)) in common.

    (1) max(x, 0) - x a + log1p(exp(-|x|))        as a fused multiply-add is not 0 at x a = x, and may be negative
    """
    a, b = _shares(y, s)
    loss = _times(weight * a, _softplus(-x)) + _times(b, _softplus(x))
    return in_one_loop(as_type(x, loss.dtype), loss)


@partial(_cross_entropy.defjvp, symbolic_zeros=True)
def _cross_entropy_jvp(primals: tuple, tangents: tuple) -> tuple:
    """b sigmoid(x) - w a sigmoid(-x) in x, a softplus(-x) in w, and for what goes over from b to a, by y or s,

    w softplus(-x) - softplus(x) = (w - 1) softplus(-|x|) - (w x, or x for x >= 0)        which cancel where the
                                                                                          difference is 0 alone

    A class without a share at an infinite logit is absent: it has no slope in y.
    """

    def going_over(x: jax.Array, w: jax.Array) -> jax.Array:
        small = _softplus(jnp.where(x < 0, x, -x))
        x = as_type(x, w.dtype)
        moved = jnp.where(x < 0, _times(w, x), x)
        return jnp.where(jnp.isinf(x), -moved, (w - 1) * small - moved)

    def in_labels(x: jax.Array, y: jax.Array, w: jax.Array, s: jax.Array) -> jax.Array:
        a, b = _shares(y, s)
        absent = jnp.isinf(x) & (jnp.where(x > 0, b, a) == 0)
        return jnp.where(absent, 0, _times(1 - s, going_over(x, w)))

    def in_logits(x: jax.Array, y: jax.Array, w: jax.Array, s: jax.Array) -> jax.Array:
        a, b = _shares(y, s)
        return b * _sigmoid(x) - w * a * _sigmoid(-x)

    slopes = (
        in_logits,
        in_labels,
        lambda x, y, w, s: _times(_shares(y, s)[0], _softplus(-x)),
        lambda x, y, w, s: _times(0.5 - y, going_over(x, w)),
    )
    moved = [i for i, t in enumerate(tangents) if not isinstance(t, SymbolicZero)]

    @recomputed
    def tangent(primals: tuple, *dots: jax.Array) -> jax.Array:
        x, _, weight, _ = primals
        terms = (as_type(dot, weight.dtype) * slopes[i](*primals) for i, dot in zip(moved, dots, strict=True))
        return sum(terms, jnp.zeros_like(x, weight.dtype))

    return _cross_entropy(*primals), tangent(primals, *(tangents[i] for i in moved))
