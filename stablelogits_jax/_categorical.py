"""Floor 3: losses on K logits, one of which is the label's, or each of which has a share of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from stablelogits_jax import _checks, _rows, _stats
from stablelogits_jax._bivariate import _times
from stablelogits_jax._checks import Axis
from stablelogits_jax._core import masked

HINT = "; integers that name classes go to softmax_cross_entropy_with_integer_labels"


def _examples(
    function: str, logits: ArrayLike, axis: Axis, where: ArrayLike | None, ignored: jax.Array | None = None
) -> tuple[jax.Array, tuple[int, ...], jax.Array | None, jax.Array | None]:
    """The logits as rows, the axes, the flattened class mask, and the mask of the examples that count.

    A masked class is -inf. The logits of an example that does not count, ignored or without a class, become 0, so that
    nothing they hold reaches a gradient of any order.
    """
    (x,), _ = _checks.floating(function, logits=logits)
    axes = _checks.axes(function, axis, x.ndim)
    _checks.some_classes(function, x.shape, axes)
    mask = _checks.mask(function, where, x.shape, axes)
    x = _stats.flatten(x, axes)
    counted = None if ignored is None else ~ignored
    if mask is None:
        return x if counted is None else masked(x, counted[..., None], 0), axes, mask, counted
    mask = _stats.flatten(mask, axes)
    some = jnp.any(mask, -1)
    counted = some if counted is None else counted & some
    fill = jnp.where(counted, jnp.asarray(-jnp.inf, x.dtype), 0)[..., None]
    return masked(x, mask & counted[..., None], fill), axes, mask, counted


def _class_weights(
    function: str,
    weights: ArrayLike,
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    x: jax.Array,
    mask: jax.Array | None,
) -> jax.Array:
    """Weights of the classes beside the rows `x`, in the type that is computed in; 0 for masked classes."""
    w = _checks.real(function, "weights", weights, _checks.compute_type(x.dtype))
    _checks.require_shape(function, "weights", w.shape, tuple(shape[a] for a in axes))
    w = w.reshape(*(1,) * (x.ndim - 1), -1)
    return w if mask is None else masked(jnp.broadcast_to(w, x.shape), mask, 0)


def _finish(function: str, loss: jax.Array, x: jax.Array, z_loss: ArrayLike, counted: jax.Array | None) -> jax.Array:
    """The loss with its z-loss, and 0 for the examples that do not count."""
    if not _checks.is_zero(z_loss):
        loss = loss + _rows.z_loss(x, _checks.option(function, "z_loss", z_loss, loss.shape, loss.dtype))
    return loss if counted is None else masked(loss, counted, 0)


def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    label_smoothing: ArrayLike = 0.0,
    weights: ArrayLike | None = None,
    z_loss: ArrayLike = 0.0,
) -> jax.Array:
    r"""Cross entropy of labels that give each class a share, $-\sum_i w_i y_i \log \mathrm{softmax}(x)_i$.

    The usual form gives exactly 0 for logits [17, 0] and label [1, 0], NaN for an absent class without a share, and NaN
    for a row of -inf. `safe_softmax_cross_entropy` is another name of this function.

    Args:
        logits: of any shape.
        labels: shares of the classes, of a shape that broadcasts to the logits'; any type; they need not sum to 1.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of the logits' shape, or of its shape without the axes.
        label_smoothing: s in [0, 1]: the labels become (1 - s) y + s / K, with K the number of kept classes; a logit
            of -inf has its s / K too, and the loss is +inf: leave such classes out by where.
        weights: weights of the classes, of the shape of the class axes; they multiply the (smoothed) labels.
        z_loss: the factor, >= 0, of logsumexp(logits)^2, which is added.

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
    name = "softmax_cross_entropy"
    x, axes, mask, counted = _examples(name, logits, axis, where)
    shape = jnp.shape(logits)
    labels = _checks.as_array(name, "labels", labels)
    hint = HINT if jnp.issubdtype(labels.dtype, jnp.integer) else ""
    y = _checks.real(name, "labels", labels, _checks.compute_type(x.dtype))
    y = _checks.beside(name, "labels", y, shape, hint)
    if hint:  # one number for each example names a class
        given, classes = (tuple(of[a] for a in axes) for of in (y.shape, shape))
        _checks.require_shape(name, "labels along the classes", given, classes, hint)
    y = jnp.broadcast_to(y, tuple(n if a in axes else m for a, (n, m) in enumerate(zip(shape, y.shape, strict=True))))
    y = _stats.flatten(y, axes)
    lost = None
    if mask is not None:  # a share of a masked class is lost, as a masked label is; what else it holds reaches nothing
        lost, y = (y > 0) & ~mask, masked(jnp.broadcast_to(y, x.shape), mask, 0)
    if not _checks.is_zero(label_smoothing):
        s = _checks.option(name, "label_smoothing", label_smoothing, x.shape[:-1], y.dtype, 0, 1)[..., None]
        y = (1 - s) * y + s * _uniform(x, mask)
    if weights is not None:
        y = _class_weights(name, weights, shape, axes, x, mask) * y
    if lost is not None:
        y = masked(y, ~lost, 1)
    return _finish(name, _rows.cross_entropy(x, y), x, z_loss, counted)


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
) -> jax.Array:
    r"""Cross entropy of integer labels, $-w_y \log \mathrm{softmax}(x)_y$.

    The usual form, logsumexp minus the label's logit, is exactly 0 for logits [17, 0] and label 0. No one-hot array is
    made, and the backward pass keeps the logits alone.

    Args:
        logits: of any shape.
        labels: integers in [0, K), of the logits' shape without the axes; over several axes, flat indices.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of the logits' shape, or of its shape without the axes.
        ignore_index: examples with this label get loss 0 and slope 0, whatever their logits hold.
        label_smoothing: s in [0, 1]: the labels become (1 - s) onehot + s / K, with K the number of kept classes; a
            logit of -inf has its s / K too, and the loss is +inf: leave such classes out by where.
        weights: weights of the classes, of the shape of the class axes; they multiply the (smoothed) labels.
        z_loss: the factor, >= 0, of logsumexp(logits)^2, which is added.

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
    (array,), _ = _checks.floating(name, logits=logits)
    axes = _checks.axes(name, axis, array.ndim)
    batch = tuple(n for a, n in enumerate(array.shape) if a not in axes)
    given, labels = labels, _checks.integer(name, "labels", labels, batch)
    ignored = _checks.ignored(name, given, ignore_index)
    x, axes, mask, counted = _examples(name, array, axes, where, ignored)
    if counted is not None:
        labels = jnp.where(counted, labels, 0)
    loss = _rows.surprisal(x, labels)
    w = None if weights is None else _class_weights(name, weights, array.shape, axes, x, mask)
    if weights is not None:
        index = jnp.where(labels < 0, x.shape[-1], labels)
        loss = _times(jnp.take(jnp.asarray(weights).astype(loss.dtype).reshape(-1), index, mode="fill"), loss)
    if not _checks.is_zero(label_smoothing):
        s = _checks.option(name, "label_smoothing", label_smoothing, loss.shape, loss.dtype, 0, 1)
        share = _uniform(x, mask) if w is None else w * _uniform(x, mask)
        loss = _times(1 - s, loss) + _times(s, _rows.cross_entropy(x, share))
    return _finish(name, loss, x, z_loss, counted)


def smooth_labels(labels: ArrayLike, alpha: ArrayLike, *, axis: Axis = -1, where: ArrayLike | None = None) -> jax.Array:
    r"""Labels mixed with the uniform distribution, $(1 - \alpha) y + \alpha / K$.

    Args:
        labels: shares of the classes, of any shape.
        alpha: the smoothing factor in [0, 1].
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
    uniform = _uniform(rows, None if mask is None else _stats.flatten(mask, axes))
    if mask is not None:
        rows = masked(rows, _stats.flatten(mask, axes), 0)
    smoothed = (1 - alpha) * rows + alpha * uniform
    return _checks.as_type(_stats.unflatten(smoothed, axes, y.shape), dtype)


def z_loss(logits: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None) -> jax.Array:
    r"""The square of the log-normalizer, $(\log \sum_i e^{x_i})^2$, which keeps logits from drifting.

    Args:
        logits: of any shape.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of the logits' shape, or of its shape without the axes.

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
    x, _, _, counted = _examples("z_loss", logits, axis, where)
    loss = _rows.z_loss(x, jnp.ones((1,) * (x.ndim - 1), _checks.compute_type(x.dtype)))
    return loss if counted is None else masked(loss, counted, 0)


def _uniform(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """1 / K for each kept class, [..., n], or [1, ..., n] where all rows are alike."""
    dtype = _checks.compute_type(x.dtype)
    if mask is None:
        return jnp.full((*(1,) * (x.ndim - 1), x.shape[-1]), 1 / x.shape[-1], dtype)
    kept = jnp.sum(mask, -1, keepdims=True).astype(dtype)
    return jnp.where(mask, 1 / jnp.maximum(kept, 1), 0)
