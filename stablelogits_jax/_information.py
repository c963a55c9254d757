"""Floor 2: entropies, divergences and log-probabilities of the distributions that logits stand for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from stablelogits_jax import _checks, _label, _mesh, _row_divergence, _rows, _stats
from stablelogits_jax._checks import Axis, compute_type
from stablelogits_jax._core import masked, recomputed
from stablelogits_jax._mesh import AxisName
from stablelogits_jax._normalizers import _rows_of


def entropy_from_logits(
    logits: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None, *, axis_name: AxisName = None
) -> jax.Array:
    r"""The entropy of a categorical distribution, $-\sum_i p_i \log p_i$ with p = softmax(logits).

    Args:
        logits: of any shape.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of the logits' shape, or examples, of its shape without the axes.
        axis_name: the mesh axis, or axes, that the classes are split over, inside `jax.shard_map`.

    Returns:
        Entropies in [0, log n], in nats, of the logits' shape without the axes and of their type.
        Limits: absent classes (-inf) add 0; 0 with slope 0 where all are; NaN where an unmasked logit is.

    Raises:
        TypeError: the logits are not float64, float32, bfloat16 or float16, or where is not boolean.
        ValueError: axis is out of range, or where would enlarge the array.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> print(f"{sl.entropy_from_logits(jnp.array([30., 0.])):.4g}")
        2.901e-12

    References:
        Shannon, `A Mathematical Theory of Communication`, 1948.
    """
    (x,), _ = _rows_of("entropy_from_logits", axis, where, axis_name, per_example=True, logits=logits)
    return _checks.as_type(_rows.entropy(x, axis_name=axis_name), x.dtype)


def kl_from_logits(
    logits_p: ArrayLike, logits_q: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""The Kullback-Leibler divergence between categorical distributions, $\sum_i p_i \log(p_i / q_i)$.

    p and q are the softmax of the logits: of the teacher's and then the student's in distillation, for which there is
    `distillation_loss`, with a temperature. The sum of terms of both signs rounds to +-6e-8 where p and q are close;
    here it is a sum of terms that are not negative, $q_i - p_i - p_i \log(q_i / p_i)$, and where the differences of
    logits are close to one another, nothing but these differences is taken.

    Args:
        logits_p: of any shape.
        logits_q: of the same shape.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of the logits' shape, or examples, of its shape without the axes.

    Returns:
        Divergences in [0, inf], in nats, of the logits' shape without the axes and of their common type.
        Limits: classes absent from p add 0, and 0 where all are; +inf where p has a class that q lacks, with
        infinite slopes in the logits of p; NaN where an unmasked logit is.

    Raises:
        TypeError: the logits are not float64, float32, bfloat16 or float16, or where is not boolean.
        ValueError: the shapes differ, there are no classes, axis is out of range, or where would enlarge the array.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> print(f"{sl.kl_from_logits(jnp.array([0., 1e-4]), jnp.array([0., 0.])):.4g}")
        1.25e-09

    References:
        Kullback, Leibler, `On Information and Sufficiency`, 1951.
    """
    (p, q), _ = _checks.floating("kl_from_logits", logits_p=logits_p, logits_q=logits_q)
    _checks.require_shape("kl_from_logits", "logits_q", q.shape, p.shape)
    _checks.some_classes("kl_from_logits", p.shape, _checks.axes("kl_from_logits", axis, p.ndim))
    (x, y), _ = _rows_of("kl_from_logits", axis, where, per_example=True, logits_p=p, logits_q=q)
    one = jnp.ones((), compute_type(x.dtype))
    return _checks.as_type(recomputed(_row_divergence.divergence)(y, x, one), x.dtype)


def log_prob_from_logits(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    axis_name: AxisName = None,
) -> jax.Array:
    r"""The log-probability of each label, $\log \mathrm{softmax}(x)_y$, without the rest of log_softmax.

    Args:
        logits: of any shape.
        labels: integers in [0, n), of the logits' shape without the axes; over several axes, flat indices.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of the logits' shape, or examples, of its shape without the axes.
        axis_name: the mesh axis, or axes, that the classes are split over, inside `jax.shard_map`; the labels count the
            classes of all devices.

    Returns:
        Log-probabilities in [-inf, 0], of the labels' shape and the logits' type: to add up those of 16-bit logits,
        take minus `softmax_cross_entropy_with_integer_labels`, which is float32.
        Limits: -inf where the label's class is absent or masked; 0 for an example masked by where, whatever its label;
        NaN in value and slope for a label outside [0, n), and where an unmasked logit is NaN.

    Raises:
        TypeError: the logits are not float64, float32, bfloat16 or float16, the labels not integers.
        ValueError: the labels' shape is another, axis is out of range, or where would enlarge the array.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> print(f"{sl.log_prob_from_logits(jnp.array([20., 0.]), 0):.4g}")
        -2.061e-09

    References:
        `Categorical.log_prob` of Distrax and TensorFlow Probability.
    """
    name = "log_prob_from_logits"
    (x,), axes = _rows_of(name, axis, where, axis_name, per_example=True, logits=logits)
    _checks.some_classes(name, x.shape, (x.ndim - 1,))
    labels = _checks.integer(name, "labels", labels, x.shape[:-1])
    mask = _checks.mask(name, where, jnp.shape(logits), axes)
    if mask is None:
        return _checks.as_type(-_label.surprisal(x, labels, axis_name=axis_name), x.dtype)
    counted = _mesh.any_of_all(jnp.any(_stats.flatten(mask, axes), -1), axis_name)
    log_p = -_label.surprisal(x, jnp.where(counted, labels, 0), axis_name=axis_name)
    return _checks.as_type(masked(log_p, counted, 0), x.dtype)
