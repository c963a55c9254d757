"""Floor 2: functions along one axis or several. Their cores and rules are in `_rows.py`."""

from __future__ import annotations

from typing import Literal, overload

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from stablelogits_jax import _checks, _mesh, _rows, _signed, _stats
from stablelogits_jax._checks import Axis
from stablelogits_jax._core import masked
from stablelogits_jax._mesh import AxisName


def _rows_of(
    function: str,
    axis: Axis,
    where: ArrayLike | None,
    axis_name: AxisName = None,
    per_example: bool = False,
    **arguments: ArrayLike,
) -> tuple[list[jax.Array], tuple[int, ...]]:
    """The arguments flattened along `axis`, their masked classes -inf, and the axes.

    With `per_example`, a mask without the class axes serves too; where jax.nn has the function, masks broadcast.
    """
    arrays, _ = _checks.floating(function, **arguments)
    _checks.mapped(function, axis_name)
    axes = _checks.axes(function, axis, arrays[0].ndim)
    mask = _checks.mask(function, where, arrays[0].shape, axes if per_example else ())
    return [_stats.flatten(x if mask is None else masked(x, mask, -jnp.inf), axes) for x in arrays], axes


@overload
def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: Literal[False] = False,
    where: ArrayLike | None = None,
    *,
    axis_name: AxisName = None,
) -> jax.Array: ...
@overload
def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    *,
    return_sign: Literal[True],
    where: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> tuple[jax.Array, jax.Array]: ...
@overload
def logsumexp(
    a: ArrayLike,
    axis: Axis,
    b: ArrayLike | None,
    keepdims: bool,
    return_sign: Literal[True],
    where: ArrayLike | None = None,
    *,
    axis_name: AxisName = None,
) -> tuple[jax.Array, jax.Array]: ...
def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    where: ArrayLike | None = None,
    *,
    axis_name: AxisName = None,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    r"""The log of a sum known by the logs of its terms, $\log \sum_i b_i e^{a_i}$.

    `log(sum(exp(a)))` overflows, and `max + log(sum(exp(a - max)))` drops every term below 6e-8 of the largest in
    float32: `logsumexp([0., -17.])` is 0 there, and 4.14e-08 here.

    Args:
        a: logs, of any shape.
        axis: the axis or axes to sum over; None means all.
        b: factors of the terms, of a shape that broadcasts with a's; they may be negative or 0.
        keepdims: keep the summed axes with size 1.
        return_sign: return the pair of log|sum| and the sum's sign: 1, -1 or 0.
        where: terms to sum, of a shape that broadcasts to a's.
        axis_name: the mesh axis, or axes, that the terms are split over, inside `jax.shard_map`; not with b.

    Returns:
        Logs, of a's type; NaN for a negative sum unless return_sign.
        Limits: -inf with slope 0 where every term is -inf or masked; +inf where one is, with the slope one-hot or
        uniform over all that are; NaN where an unmasked entry is.

    Raises:
        TypeError: a or b is not float64, float32, bfloat16 or float16, or where is not boolean.
        ValueError: axis is out of range, where would enlarge the array, or axis_name comes with b.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> print(f"{sl.logsumexp(jnp.array([0., -17.])):.3g}", sl.logsumexp(jnp.array([1e5, 0.])))
        4.14e-08 100000.0

    References:
        Blanchard, Higham, Higham, `Accurately computing the log-sum-exp and softmax functions`, 2021.
    """
    if b is None:
        (x,), axes = _rows_of("logsumexp", axis, where, axis_name, a=a)
        y = _rows.logsumexp(x, axis_name=axis_name)
        sign = jnp.where(jnp.isnan(y), y, jnp.where(y == -jnp.inf, 0, 1))
    else:
        _checks.not_split("logsumexp", axis_name, "with factors b")
        (a, b), _ = _checks.floating("logsumexp", a=a, b=b)
        shape = _checks.common_shape("logsumexp", a=a, b=b)
        a, b = jnp.broadcast_to(a, shape), jnp.broadcast_to(b, shape)
        mask = _checks.mask("logsumexp", where, shape)
        b = b if mask is None else masked(b, mask, 0)
        (x,), axes = _rows_of("logsumexp", axis, where, a=a)
        y, sign = _signed.signed_logsumexp(x, _stats.flatten(b, axes))
    if keepdims:
        y, sign = jnp.expand_dims(y, axes), jnp.expand_dims(sign, axes)
    y, sign = _checks.as_type(y, x.dtype), _checks.as_type(sign, x.dtype)
    if return_sign:
        return y, sign
    return y if b is None else jnp.where(sign < 0, jnp.nan, y)


def logmeanexp(
    x: ArrayLike,
    axis: Axis = None,
    where: ArrayLike | None = None,
    keepdims: bool = False,
    *,
    axis_name: AxisName = None,
) -> jax.Array:
    r"""The log of a mean known by the logs of its terms, $\log \frac1n \sum_i e^{x_i}$.

    Args:
        x: logs, of any shape.
        axis: the axis or axes to average over; None means all.
        where: terms to average, of a shape that broadcasts to x's.
        keepdims: keep the averaged axes with size 1.
        axis_name: the mesh axis, or axes, that the terms are split over, inside `jax.shard_map`.

    Returns:
        Logs, of x's type. The slope is softmax(x).
        Limits: as `logsumexp`; -inf where every term is masked.

    Raises:
        TypeError: x is not float64, float32, bfloat16 or float16, or where is not boolean.
        ValueError: axis is out of range, or where would enlarge the array.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> print(f"{sl.logmeanexp(jnp.array([1000., 1001.])):.4f}")
        1000.6201

    References:
        Burda, Grosse, Salakhutdinov, `Importance Weighted Autoencoders`, 2015.
    """
    (rows,), axes = _rows_of("logmeanexp", axis, where, axis_name, x=x)
    mask = _checks.mask("logmeanexp", where, jnp.shape(x))
    if mask is None:
        n = rows.shape[-1] * _mesh.devices(axis_name)
    else:
        n = _mesh.over_all(jnp.sum(_stats.flatten(mask, axes), -1, keepdims=True), axis_name)
    n = jnp.maximum(jnp.asarray(n, _checks.compute_type(rows.dtype)), 1)
    y = _rows.logmeanexp(rows, n, axis_name=axis_name)
    return _checks.as_type(jnp.expand_dims(y, axes) if keepdims else y, rows.dtype)


def softmax(x: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None, *, axis_name: AxisName = None) -> jax.Array:
    r"""Probabilities proportional to the exponentials of logits, $e^{x_i} / \sum_j e^{x_j}$.

    The textbook form overflows; the usual one is NaN for a row of -inf, and under `jit` for products above 2^31; its
    rule `p * (t - sum(p * t))` gives the winning class a derivative of 0.

    Args:
        x: logits, of any shape.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of a shape that broadcasts to x's; the others get 0.
        axis_name: the mesh axis, or axes, that the classes are split over, inside `jax.shard_map`.

    Returns:
        Probabilities in [0, 1], of x's shape and type, in the order of the logits; each row sums to 1.
        Limits: uniform over the +inf entries if there are any; 0 with slope 0 where all are -inf or masked; NaN in the
        row of a NaN.

    Raises:
        TypeError: x is not float64, float32, bfloat16 or float16, or where is not boolean.
        ValueError: axis is out of range, or where would enlarge the array.

    Example:
        >>> import jax, jax.numpy as jnp, stablelogits_jax as sl
        >>> print(sl.softmax(jnp.array([jnp.inf, jnp.inf, 0.])))
        [0.5 0.5 0. ]
        >>> print(f"{jax.grad(lambda x: sl.softmax(x)[0])(jnp.array([20., 0.]))[0]:.4g}")
        2.061e-09

    References:
        Bridle, `Probabilistic Interpretation of Feedforward Classification Network Outputs`, 1990.
    """
    (rows,), axes = _rows_of("softmax", axis, where, axis_name, x=x)
    return _stats.unflatten(_checks.as_type(_rows.softmax(rows, axis_name=axis_name), rows.dtype), axes, jnp.shape(x))


def log_softmax(
    x: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None, *, axis_name: AxisName = None
) -> jax.Array:
    r"""The logs of softmax, $x_i - \log \sum_j e^{x_j}$.

    `log(softmax(x))` is -inf where softmax underflows; the usual `x - logsumexp(x)` is 0 for a class that leads by 17.

    Args:
        x: logits, of any shape.
        axis: the class axis, or axes that together hold the classes; None means all.
        where: classes to keep, of a shape that broadcasts to x's; the others get -inf.
        axis_name: the mesh axis, or axes, that the classes are split over, inside `jax.shard_map`.

    Returns:
        Log-probabilities in [-inf, 0], of x's shape and type.
        Limits: those of softmax: -log k for k entries of +inf, -inf for the others beside them; -inf with slope 0 where
        all are -inf or masked; NaN in the row of a NaN.

    Raises:
        TypeError: x is not float64, float32, bfloat16 or float16, or where is not boolean.
        ValueError: axis is out of range, or where would enlarge the array.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> print(f"{sl.log_softmax(jnp.array([20., 0.]))[0]:.4g}")
        -2.061e-09

    References:
        Blanchard, Higham, Higham, `Accurately computing the log-sum-exp and softmax functions`, 2021.
    """
    (rows,), axes = _rows_of("log_softmax", axis, where, axis_name, x=x)
    return _stats.unflatten(
        _checks.as_type(_rows.log_softmax(rows, axis_name=axis_name), rows.dtype), axes, jnp.shape(x)
    )
