"""Floor 3: cross entropies on K logits, modulated by how sure the prediction is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from stablelogits_jax import _label
from stablelogits_jax._checks import Axis
from stablelogits_jax._examples import examples, labelled, option, shares, smoothed, total
from stablelogits_jax._mesh import AxisName
from stablelogits_jax._row_surprisals import focal, poly
from stablelogits_jax._surprisals import FOCAL


def softmax_focal_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    gamma: ArrayLike = 2.0,
    label_smoothing: ArrayLike = 0.0,
    weights: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> jax.Array:
    r"""Cross entropy scaled down where the prediction is good, $-\sum_i w_i y_i (1 - p_i)^\gamma \log p_i$.

    With p = softmax(logits). The power of a rounded 1 - p loses the tail; here it is taken of a log-probability.

    Args:
        logits: of any shape.
        labels: shares of the classes, of a shape that broadcasts to the logits'; any type, integers with all of the
            logits' axes and classes; they need not sum to 1.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of the logits' shape, or examples, of its shape without the axes.
        gamma: the focusing exponent, >= 0, a number or one for each example.
        label_smoothing: s in [0, 1], a number or one for each example: the labels become (1 - s) y + s / K, with K the
            number of kept classes; a logit of -inf has its s / K too, and the loss is +inf: leave such classes out by
            where.
        weights: weights of the classes (the balancing alpha), >= 0, of the shape of the class axes.
        axis_name: the mesh axis, or axes, that the classes are split over, inside `jax.shard_map`: logits, labels,
            where and weights are then a device's part.

    Returns:
        Losses in [0, inf] of the logits' shape without the axes, float32 for 16-bit logits; at gamma = 0 the cross
        entropy.
        Limits: those of `softmax_cross_entropy`, with a finite slope beside an infinite loss: p sum z - z, of z =
        y f'(-log p) with f(s) = (1 - e^-s)^gamma s.

    Raises:
        TypeError: the logits are not float64, float32, bfloat16 or float16, or where is not boolean.
        ValueError: the labels would enlarge the logits; axis, a shape or a static option is out of range.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> loss = sl.softmax_focal_loss(jnp.array([[20., 0.], [0., 20.]]), jnp.array([1., 0.]))
        >>> print(f"{loss[0]:.4g} {loss[1]:.4g}")
        8.757e-27 20

    References:
        Lin et al., [Focal Loss for Dense Object Detection](https://arxiv.org/abs/1708.02002), 2017.
    """
    of = examples("softmax_focal_loss", logits, axis, where, axis_name=axis_name)
    y = shares(of, labels, label_smoothing, weights)
    gamma = option(of, "gamma", gamma)
    return total(of, lambda x: focal(x, y, gamma[..., None], axis_name=axis_name))


def softmax_focal_loss_with_integer_labels(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    ignore_index: int | None = None,
    gamma: ArrayLike = 2.0,
    label_smoothing: ArrayLike = 0.0,
    weights: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> jax.Array:
    r"""`softmax_focal_loss` of integer labels, $-w_y (1 - p_y)^\gamma \log p_y$, without a one-hot array.

    With label smoothing each class adds its share, as there, $-\sum_i w_i y_i (1 - p_i)^\gamma \log p_i$.

    Args:
        logits: of any shape.
        labels: integers in [0, K), of the logits' shape without the axes; over several axes, flat indices.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of the logits' shape, or examples, of its shape without the axes.
        ignore_index: examples with this label get loss 0 and slope 0, whatever their logits hold.
        gamma: the focusing exponent, >= 0, a number or one for each example.
        label_smoothing: s in [0, 1], a number or one for each example: the labels become (1 - s) onehot + s / K, with K
            the number of kept classes; a logit of -inf has its s / K too, and the loss is +inf: leave such classes out
            by where.
        weights: weights of the classes (the balancing alpha), >= 0, of the shape of the class axes.
        axis_name: the mesh axis, or axes, that the classes are split over, inside `jax.shard_map`: logits, where and
            weights are then a device's part, and the labels count the classes of all.

    Returns:
        Losses in [0, inf] of the labels' shape, float32 for 16-bit logits; at gamma = 0 the cross entropy.
        Limits: those of `softmax_cross_entropy_with_integer_labels`, whose slope is multiplied by
        (1 - p)^gamma - gamma (1 - p)^(gamma - 1) p log p of the label.

    Raises:
        TypeError: the logits are not float64, float32, bfloat16 or float16, the labels or ignore_index not
            integers, or where is not boolean.
        ValueError: axis, a shape or a static option is out of range.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> print(f"{sl.softmax_focal_loss_with_integer_labels(jnp.array([20., 0.]), 0):.4g}")
        8.757e-27

    References:
        Lin et al., [Focal Loss for Dense Object Detection](https://arxiv.org/abs/1708.02002), 2017.
    """
    name = "softmax_focal_loss_with_integer_labels"
    of, labels = labelled(name, logits, labels, axis, where, ignore_index, axis_name)
    gamma = option(of, "gamma", gamma)

    def hard(x: jax.Array, labels: jax.Array) -> jax.Array:
        s = _label.surprisal(x, labels, axis_name=axis_name)
        sure = s == 0  # the loss is 0 and does not move, though its curvature in s may be infinite
        return jnp.where(sure, 0, FOCAL.f(jnp.where(sure, 1, s), gamma))

    def soft(x: jax.Array, y: jax.Array) -> jax.Array:
        return focal(x, y, gamma[..., None], axis_name=axis_name)

    return total(of, smoothed(of, labels, hard, soft, label_smoothing, weights))


def poly_loss_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    epsilon: ArrayLike = 2.0,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    axis_name: AxisName = None,
) -> jax.Array:
    r"""Cross entropy with its first polynomial term weighed anew, $\sum_i y_i (-\log p_i + \epsilon (1 - p_i))$.

    With p = softmax(logits). `1 - softmax(x)` is 0 for a class that leads by 17, and so is its gradient.

    Args:
        logits: of any shape.
        labels: shares of the classes, of a shape that broadcasts to the logits'; any type, integers with all of the
            logits' axes and classes; they need not sum to 1.
        epsilon: the coefficient of 1 - p, a number or one for each example; below -1 the slope of the label's logit
            changes its sign.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of the logits' shape, or examples, of its shape without the axes.
        axis_name: the mesh axis, or axes, that the classes are split over, inside `jax.shard_map`: logits, labels and
            where are then a device's part.

    Returns:
        Losses of the logits' shape without the axes, float32 for 16-bit logits; not negative for epsilon >= -1.
        Limits: those of `softmax_cross_entropy`, with a finite slope beside an infinite loss: p sum z - z, of z =
        y (1 + epsilon p).

    Raises:
        TypeError: the logits are not float64, float32, bfloat16 or float16, or where is not boolean.
        ValueError: the labels would enlarge the logits, or axis or a shape is out of range.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> print(f"{sl.poly_loss_cross_entropy(jnp.array([20., 0.]), jnp.array([1., 0.])):.4g}")
        6.183e-09

    References:
        Leng et al., [PolyLoss](https://arxiv.org/abs/2204.12511), 2022.
    """
    of = examples("poly_loss_cross_entropy", logits, axis, where, axis_name=axis_name)
    y = shares(of, labels, 0.0, None)
    epsilon = option(of, "epsilon", epsilon, low=float("-inf"))
    return total(of, lambda x: poly(x, y, epsilon[..., None], axis_name=axis_name))
