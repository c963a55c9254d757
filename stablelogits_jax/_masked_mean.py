"""Floor 2: the mean of the losses that are selected."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from stablelogits_jax import _checks
from stablelogits_jax._bivariate import _times
from stablelogits_jax._checks import Axis
from stablelogits_jax._core import masked


def masked_mean(
    loss: ArrayLike, where: ArrayLike | None = None, weights: ArrayLike | None = None, axis: Axis = None
) -> jax.Array:
    r"""The mean of the selected losses, $\sum_i w_i l_i / \sum_i w_i$ over where; 0 where nothing is selected.

    With nothing selected, or weights that sum to 0, the usual `sum / sum` is NaN, and so is every gradient behind it.
    PyTorch's mean of a cross entropy with class weights w is this of the loss without, and `weights=w[labels]`.

    Args:
        loss: losses, of any shape.
        where: losses to select, of a shape that broadcasts to the loss's; None selects all.
        weights: non-negative, of any real type and a shape that broadcasts to the loss's; None means 1.
        axis: the axis or axes to average over; None means all.

    Returns:
        Means of the loss's type. A loss that is not selected changes neither value nor gradient, whatever it holds; one
        of weight 0 may be infinite, not NaN.
        Limits: an infinite loss of a weight that is not 0 makes the mean infinite, and so does a sum of losses beyond
        the largest float, as in `jnp.mean`; 0 with slopes 0 where the weights sum to 0.

    Raises:
        TypeError: loss is not float64, float32, bfloat16 or float16, weights are not real, or where is not boolean.
        ValueError: where or weights would enlarge the loss, static weights are negative, or axis is out of range.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> loss = jnp.array([1., 2., jnp.nan])
        >>> print(sl.masked_mean(loss, where=jnp.array([True, True, False])))
        1.5
        >>> print(sl.masked_mean(loss, where=jnp.array([False, False, False])))
        0.0

    References:
        `CrossEntropyLoss(reduction="mean")` of PyTorch, whose mean is weighted in the same way.
    """
    (values,), dtype = _checks.widened("masked_mean", loss=loss)
    axes = _checks.axes("masked_mean", axis, values.ndim)
    w = _checks.weights("masked_mean", 1.0 if weights is None else weights, values.dtype)
    w = _checks.broadcast("masked_mean", "weights", w, values.shape)
    mask = _checks.mask("masked_mean", where, values.shape)
    if mask is not None:
        values, w = masked(values, mask, 0), masked(w, mask, 0)
    w = w / _near_largest(w, axes)  # which may be beyond or below what can be added, squared or inverted
    total = jnp.sum(w, axes)
    mean = jnp.sum(_times(w, values), axes) / jnp.where(total == 0, 1, total)
    return _checks.as_type(jnp.where(total == 0, 0, mean), dtype)


def _near_largest(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The power of two below the largest x, of which the inverse is normal too; 1 for 0 and infinity."""
    info = jnp.finfo(x.dtype)
    top = jax.lax.stop_gradient(jnp.max(x, axes, keepdims=True, initial=0))
    bits = jax.lax.bitcast_convert_type(top, jnp.dtype(f"int{info.bits}")) >> info.nmant << info.nmant
    power = jnp.clip(jax.lax.bitcast_convert_type(bits, x.dtype), 2.0**info.minexp, 2.0**-info.minexp)
    return jnp.where((top > 0) & (top < jnp.inf), power, 1)
