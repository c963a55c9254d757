"""Floor 3: losses that teach a student's logits a teacher's."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from stablelogits_jax import _checks, _row_divergence
from stablelogits_jax._checks import Axis, compute_type
from stablelogits_jax._core import masked, moved, recomputed, wide
from stablelogits_jax._normalizers import _rows_of
from stablelogits_jax._row_divergence import beside
from stablelogits_jax._row_sums import inner, row_sum


def distillation_loss(
    logits: ArrayLike,
    teacher_logits: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    temperature: ArrayLike = 1.0,
) -> jax.Array:
    r"""Knowledge distillation, $T^2\, \mathrm{KL}(\mathrm{softmax}(t / T) \| \mathrm{softmax}(x / T))$.

    The factor $T^2$ keeps the size of the gradient when T changes. For large T it is `logit_matching_loss`, where the
    probabilities are nearly equal and have lost the digits of the logits; here the differences of the logits are taken
    before they are divided.

    Args:
        logits: the student's, of any shape.
        teacher_logits: the teacher's, of the same shape; they are differentiated too, unless `stop_gradient` says no.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of the logits' shape, or examples, of its shape without the axes.
        temperature: T > 0, a number or one for each example; inf gives the limit, which is +inf where a class is absent
            from one row only.

    Returns:
        Losses in [0, inf], in nats, of the logits' shape without the axes, float32 for 16-bit logits. The slope is
        T (softmax(x / T) - softmax(t / T)) in the logits.
        Limits: classes absent (-inf) from the teacher add 0, also where all are; +inf where the teacher has a class
        that the student lacks, with infinite slopes in the teacher's logits and an infinite one or NaN in T; NaN
        where an unmasked logit is.

    Raises:
        TypeError: the logits are not float64, float32, bfloat16 or float16, or where is not boolean.
        ValueError: the shapes differ; where or temperature would enlarge the logits; axis or a static temperature is
            out of range.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> x, t = jnp.array([1000., 1000.]), jnp.array([1001., 1000.])
        >>> print(f"{sl.distillation_loss(x, t, temperature=2.):.4f}")
        0.1212

    References:
        Hinton, Vinyals, Dean, [Distilling the Knowledge in a Neural Network](https://arxiv.org/abs/1503.02531), 2015.
    """
    name = "distillation_loss"
    (x, t), dtype, counted = _student_and_teacher(name, logits, teacher_logits, axis, where)
    temperature = _checks.option(name, "temperature", temperature, x.shape[:-1], compute_type(dtype), positive=True)
    if counted is not None:
        temperature = masked(jnp.broadcast_to(temperature, counted.shape), counted, 1)
    return recomputed(_row_divergence.divergence)(x, t, temperature)


def _student_and_teacher(
    function: str, logits: ArrayLike, teacher_logits: ArrayLike, axis: Axis, where: ArrayLike | None
) -> tuple[list[jax.Array], jnp.dtype, jax.Array | None]:
    """Both as rows, their masked classes -inf, their type, and, with `where`, the examples of which a class is kept."""
    (x, t), dtype = _checks.floating(function, logits=logits, teacher_logits=teacher_logits)
    _checks.require_shape(function, "teacher_logits", t.shape, x.shape)
    shape = x.shape
    (x, t), axes = _rows_of(function, axis, where, per_example=True, logits=x, teacher_logits=t)
    _checks.some_classes(function, x.shape, (x.ndim - 1,))
    mask = _checks.mask(function, where, shape, axes)
    return [x, t], dtype, None if mask is None else jnp.any(mask, axes)


def logit_matching_loss(
    logits: ArrayLike, teacher_logits: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""Half the variance over the classes of the difference to a teacher's logits,
    $\frac{1}{2K} \sum_i (d_i - \bar d)^2$ with $d = x - t$: the limit of `distillation_loss` for a large temperature.

    The regression on a teacher's logits of Ba and Caruana is that of the logits as they are. Softmax does not see a
    constant that is added to all logits of a row, so the mean of d is taken off: this is Hinton's form (section 2.1),
    whose logits have a mean of zero.

    Args:
        logits: the student's, of any shape.
        teacher_logits: the teacher's, of the same shape; they are differentiated too, unless `stop_gradient` says no.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of the logits' shape, or examples, of its shape without the axes.

    Returns:
        Losses in [0, inf] of the logits' shape without the axes, float32 for 16-bit logits. K is the number of kept
        classes, and the slope is (d - mean d) / K in the logits.
        Limits: classes absent (-inf) from both are left out; +inf where a class is absent from one; 0 where none is
        left; NaN where an unmasked logit is.

    Raises:
        TypeError: the logits are not float64, float32, bfloat16 or float16, or where is not boolean.
        ValueError: the shapes differ, axis is out of range, or where would enlarge the logits.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> print(sl.logit_matching_loss(jnp.array([1000., 1002.]), jnp.array([0., 0.])))
        0.5

    References:
        Ba, Caruana, [Do Deep Nets Really Need to be Deep?](https://arxiv.org/abs/1312.6184), 2014.
        Hinton, Vinyals, Dean, [Distilling the Knowledge in a Neural Network](https://arxiv.org/abs/1503.02531), 2015.
    """
    (x, t), *_ = _student_and_teacher("logit_matching_loss", logits, teacher_logits, axis, where)
    return _half_variance(x, t, _moments(*jax.lax.stop_gradient((x, t))))


class Moments(NamedTuple):
    """Of d = x - t, each [..., 1]."""

    start: jax.Array
    more: jax.Array  # the mean is start + more
    weight: jax.Array  # of a class that is not absent from both
    half_variance: jax.Array


def _moments(x: jax.Array, t: jax.Array) -> Moments:
    """(1) as a textbook has them        right if no mean is above three deviations: c has then lost few of its digits
    (2) in two parts, of the classes that are not absent from both, beside the largest finite d
    """
    mean = jnp.mean(wide(x) - wide(t), -1, keepdims=True)
    again = jax.lax.optimization_barrier((x, t))  # or XLA would write out one d for both
    half_variance = jnp.mean((wide(again[0]) - wide(again[1]) - mean) ** 2, -1, keepdims=True) / 2

    def in_parts() -> Moments:
        d, none = beside(x, t, 0), _absent(x, t)
        kept, finite = ((~out).astype(d.dtype) for out in (none, none | jnp.isinf(d)))
        weight = 1 / jnp.maximum(row_sum(kept), 1)
        start = jnp.max(jnp.where(finite == 0, -jnp.inf, d), -1, keepdims=True)
        start = jnp.where(jnp.isinf(start), 0, start)
        largest = float(jnp.finfo(d.dtype).max)
        parts = jnp.clip(beside(x, t, start), -largest, largest) * weight
        more = jnp.clip(row_sum(jnp.where(finite == 0, 0, parts)), -largest, largest)
        of = Moments(start, more, weight, weight)
        c = _centred(x, t, of)
        return of._replace(half_variance=row_sum(c * (c * weight)) / 2)

    return jax.lax.cond(
        jnp.all(jnp.abs(mean) <= 3 * jnp.sqrt(2 * half_variance)) & jnp.all(half_variance < jnp.inf),
        lambda: Moments(mean, jnp.zeros_like(mean), jnp.full_like(mean, 1 / x.shape[-1]), half_variance),
        in_parts,
    )


def _absent(x: jax.Array, t: jax.Array) -> jax.Array:
    return (wide(x) == -jnp.inf) & (wide(t) == -jnp.inf)


def _centred(x: jax.Array, t: jax.Array, of: Moments) -> jax.Array:
    return jnp.where(_absent(x, t), 0, beside(x, t, of.start) - of.more)


@jax.custom_jvp
def _half_variance(x: jax.Array, t: jax.Array, of: Moments) -> jax.Array:
    return of.half_variance[..., 0]


@partial(_half_variance.defjvp, symbolic_zeros=True)
def _half_variance_jvp(primals: tuple, tangents: tuple) -> tuple:
    """The slope of the mean is left out: the sum of what it multiplies is 0."""
    slope = recomputed(_slope)(*primals)
    return _half_variance(*primals), inner(slope, _d_dot(slope, tangents))


def _d_dot(like: jax.Array, tangents: tuple) -> jax.Array:
    x_dot, t_dot, _ = tangents
    return moved(like, (x_dot, wide), (t_dot, lambda dot: -wide(dot)))


@jax.custom_jvp
def _slope(x: jax.Array, t: jax.Array, of: Moments) -> jax.Array:
    return _centred(x, t, of) * of.weight


@partial(_slope.defjvp, symbolic_zeros=True)
def _slope_jvp(primals: tuple, tangents: tuple) -> tuple:
    (x, t, of), slope = primals, _slope(*primals)
    weights = jnp.where(_absent(x, t), 0, of.weight)
    d_dot = jnp.where(weights == 0, 0, _d_dot(slope, tangents))
    return slope, weights * (d_dot - jnp.sum(weights * d_dot, -1, keepdims=True))
