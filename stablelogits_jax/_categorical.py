"""Floor 3: losses on K logits, one of which is the label's, or each of which has a share of it."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from stablelogits_jax import _checks, _label, _rows, _stats
from stablelogits_jax._checks import Axis
from stablelogits_jax._core import masked
from stablelogits_jax._cross_entropy import cross_entropy, cross_entropy_and_z_loss
from stablelogits_jax._examples import examples, labelled, mixed_labels, shares, smoothed, total, uniform
from stablelogits_jax._mesh import AxisName


def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    label_smoothing: ArrayLike = 0.0,
    weights: ArrayLike | None = None,
    z_loss: ArrayLike = 0.0,
    soft_cap: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> jax.Array:
    r"""Cross entropy of labels that give each class a share, $-\sum_i w_i y_i \log \mathrm{softmax}(x)_i$.

    The usual form gives exactly 0 for logits [17, 0] and label [1, 0], NaN for an absent class without a share, and NaN
    for a row of -inf. `safe_softmax_cross_entropy` is another name of this function.

    Args:
        logits: of any shape.
        labels: shares of the classes, of a shape that broadcasts to the logits'; any type, integers with all of the
            logits' axes and classes; they need not sum to 1.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of the logits' shape, or examples, of its shape without the axes.
        label_smoothing: s in [0, 1], a number or one for each example: the labels become (1 - s) y + s / K, with K the
            number of kept classes; a logit of -inf has its s / K too, and the loss is +inf: leave such classes out by
            where.
        weights: weights of the classes, >= 0, of the shape of the class axes; they multiply the (smoothed) labels.
        z_loss: the factor, >= 0, a number or one for each example, of logsumexp(x)^2, which is added, with x the kept
            and capped logits; weights and label_smoothing leave it as it is.
        soft_cap: c > 0, a number or one for each example, for c tanh(x / c) in the place of each logit x; -inf stays
            absent, with slope 0.
        axis_name: the mesh axis, or axes, that the classes are split over, inside `jax.shard_map`: logits, labels,
            where and weights are then a device's part.

    Returns:
        Losses in [0, inf] of the logits' shape without the axes, float32 for 16-bit logits.
        Limits: an absent class (-inf) adds 0 where its label is 0, else +inf with the finite slope softmax minus label;
        a row of -inf has loss +inf and slope 0; a row masked by where has loss 0 and slope 0; NaN at NaN.

    Raises:
        TypeError: the logits are not float64, float32, bfloat16 or float16, or where is not boolean.
        ValueError: the labels would enlarge the logits; axis, a shape or a static option is out of range.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> print(f"{sl.softmax_cross_entropy(jnp.array([17., 0.]), jnp.array([1., 0.])):.4g}")
        4.14e-08

    References:
        Bridle, `Probabilistic Interpretation of Feedforward Classification Network Outputs`, 1990.
        Szegedy et al., `Rethinking the Inception Architecture for Computer Vision`, 2016 (smoothing).
    """
    of = examples("softmax_cross_entropy", logits, axis, where, axis_name=axis_name)
    y = shares(of, labels, label_smoothing, weights)

    def loss(x: jax.Array, *z: jax.Array) -> jax.Array:
        if not z:
            return cross_entropy(x, y, axis_name=axis_name)
        entropy, of_z = cross_entropy_and_z_loss(x, y, *z, axis_name=axis_name)
        return entropy + of_z

    return total(of, loss, z_loss, soft_cap)


safe_softmax_cross_entropy = softmax_cross_entropy


def softmax_cross_entropy_with_integer_labels(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: ArrayLike = 0.0,
    weights: ArrayLike | None = None,
    z_loss: ArrayLike = 0.0,
    soft_cap: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> jax.Array:
    r"""Cross entropy of integer labels, $-w_y \log \mathrm{softmax}(x)_y$.

    The usual form, logsumexp minus the label's logit, is exactly 0 for logits [17, 0] and label 0. No one-hot array is
    made, and the backward pass keeps the logits alone.

    Args:
        logits: of any shape.
        labels: integers in [0, K), of the logits' shape without the axes; over several axes, flat indices.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of the logits' shape, or examples, of its shape without the axes.
        ignore_index: examples with this label get loss 0 and slope 0, whatever their logits hold.
        label_smoothing: s in [0, 1], a number or one for each example: the labels become (1 - s) onehot + s / K, with K
            the number of kept classes; a logit of -inf has its s / K too, and the loss is +inf: leave such classes out
            by where.
        weights: weights of the classes, >= 0, of the shape of the class axes; they multiply the (smoothed) labels.
        z_loss: the factor, >= 0, a number or one for each example, of logsumexp(x)^2, which is added, with x the kept
            and capped logits; weights and label_smoothing leave it as it is.
        soft_cap: c > 0, a number or one for each example, for c tanh(x / c) in the place of each logit x; -inf stays
            absent, with slope 0.
        axis_name: the mesh axis, or axes, that the classes are split over, inside `jax.shard_map`: logits, where and
            weights are then a device's part, and the labels count the classes of all.

    Returns:
        Losses in [0, inf] of the labels' shape, float32 for 16-bit logits.
        Limits: +inf where the label's class is absent (-inf) or masked, with the finite slope softmax minus label; a
        row of -inf has loss +inf and slope 0; a row masked by where has loss 0 and slope 0; NaN in value and slope
        for a label outside [0, K); NaN at NaN.

    Raises:
        TypeError: the logits are not float64, float32, bfloat16 or float16, the labels or ignore_index not
            integers, or where is not boolean.
        ValueError: axis, a shape or a static option is out of range.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> logits = jnp.array([[17., 0.], [0., 0.], [jnp.nan, 0.]])
        >>> loss = sl.softmax_cross_entropy_with_integer_labels(logits, jnp.array([0, 1, -1]), ignore_index=-1)
        >>> print(" ".join(f"{l:.4g}" for l in loss))
        4.14e-08 0.6931 0

    References:
        Bridle, `Probabilistic Interpretation of Feedforward Classification Network Outputs`, 1990.
        Szegedy et al., `Rethinking the Inception Architecture for Computer Vision`, 2016 (smoothing).
    """
    name = "softmax_cross_entropy_with_integer_labels"
    of, labels = labelled(name, logits, labels, axis, where, ignore_index, axis_name)

    def surprisal(x: jax.Array, label: jax.Array, *z: jax.Array) -> Any:
        f = _label.surprisal_and_z_loss if z else _label.surprisal
        return f(x, label, *z, axis_name=axis_name)

    loss = smoothed(of, labels, surprisal, partial(cross_entropy, axis_name=axis_name), label_smoothing, weights)
    return total(of, loss, z_loss, soft_cap)


def smooth_labels(labels: ArrayLike, alpha: ArrayLike, *, axis: Axis = -1, where: ArrayLike | None = None) -> jax.Array:
    r"""Labels mixed with the uniform distribution, $(1 - \alpha) y + \alpha / K$.

    Args:
        labels: shares of the classes, of any shape.
        alpha: the smoothing factor in [0, 1], a number or one for each example.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of a shape that broadcasts to the labels'; the others get 0.

    Returns:
        Labels of the same shape and type; K is the number of kept classes.

    Raises:
        TypeError: the labels are not float64, float32, bfloat16 or float16, or where is not boolean.
        ValueError: axis or a static alpha is out of range, or where has another shape.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> print(sl.smooth_labels(jnp.array([1., 0., 0., 0.]), 0.5))
        [0.625 0.125 0.125 0.125]

    References:
        Müller et al., [When Does Label Smoothing Help?](https://arxiv.org/abs/1906.02629), 2019.
    """
    (y,), dtype = _checks.widened("smooth_labels", labels=labels)
    axes = _checks.axes("smooth_labels", axis, y.ndim)
    mask = _checks.mask("smooth_labels", where, y.shape)
    _checks.some_classes("smooth_labels", y.shape, axes)
    rows = _stats.flatten(y, axes)
    alpha = _checks.option("smooth_labels", "alpha", alpha, rows.shape[:-1], y.dtype, 0, 1)[..., None]
    if mask is not None:
        mask = _stats.flatten(mask, axes)
        rows = masked(rows, mask, 0)
    mixed = mixed_labels(rows, alpha, uniform(rows, mask))
    return _checks.as_type(_stats.unflatten(mixed, axes, y.shape), dtype)


def z_loss(
    logits: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None, *, axis_name: AxisName = None
) -> jax.Array:
    r"""The square of the log-normalizer, $(\log \sum_i e^{x_i})^2$, which keeps logits from drifting.

    Args:
        logits: of any shape.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of the logits' shape, or examples, of its shape without the axes.
        axis_name: the mesh axis, or axes, that the classes are split over, inside `jax.shard_map`.

    Returns:
        Losses in [0, inf] of the logits' shape without the axes, float32 for 16-bit logits.
        Limits: +inf with slope 0 for a row of -inf; 0 with slope 0 for a row masked by where; NaN at NaN.

    Raises:
        TypeError: the logits are not float64, float32, bfloat16 or float16, or where is not boolean.
        ValueError: axis is out of range, or where has another shape.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> print(f"{sl.z_loss(jnp.array([0., 0.])):.4f}")
        0.4805

    References:
        Chowdhery et al., [PaLM: Scaling Language Modeling with Pathways](https://arxiv.org/abs/2204.02311), 2022.
    """
    of = examples("z_loss", logits, axis, where, axis_name=axis_name)
    one = jnp.ones((1,) * (of.x.ndim - 1), _checks.compute_type(of.x.dtype))
    return total(of, lambda x: _rows.z_loss(x, one, axis_name=axis_name))
