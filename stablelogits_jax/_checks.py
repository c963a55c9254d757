"""Floor 0: static contracts, checked through Chex while a function is traced.

Every error names the function and the argument, says what came and what was wanted: `TypeError` for a dtype,
`ValueError` for a shape, an axis or the value of a static option.
"""

import operator
from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

Axis = int | Sequence[int] | None

_FLOATS = tuple(jnp.dtype(t) for t in (jnp.float64, jnp.float32, jnp.bfloat16, jnp.float16))


def require(held: bool, message: str, error: type[Exception] = ValueError) -> None:
    """One line of Chex's, the message its end. Shapes that differ Chex would show as a diff of tuples."""
    chex.assert_equal(held, True, custom_message=message, exception_type=error)


def compute_type(dtype: Any) -> Any:
    """The type that is computed in: float32 for the 16-bit types, the type itself for the others."""
    return jnp.dtype(jnp.float32) if dtype.itemsize == 2 else dtype


def as_type(x: jax.Array, dtype: Any) -> jax.Array:
    """`x` in `dtype`. Where it has that type it is left alone: a Python scalar then keeps its weak type."""
    return x if x.dtype == dtype else x.astype(dtype)


def floating(function: str, **arguments: Any) -> tuple[list[jax.Array], Any]:
    """The arguments as arrays of their common floating type, and that type."""
    arrays = {name: as_array(function, name, value) for name, value in arguments.items()}
    floats = [array.dtype in _FLOATS for array in arrays.values()]
    for (name, array), is_float in zip(arrays.items(), floats, strict=True):
        require(
            is_float or (array.weak_type and any(floats)),  # Python's 0 and 1 go with any float
            f"{function}: {name} must be float64, float32, bfloat16 or float16, got {array.dtype}",
            TypeError,
        )
    dtype = jnp.result_type(*arrays.values())
    return [as_type(array, dtype) for array in arrays.values()], dtype


def widened(function: str, **arguments: Any) -> tuple[list[jax.Array], Any]:
    """`floating` with the arrays in the type that is computed in, and the type the result is to have."""
    arrays, dtype = floating(function, **arguments)
    return [as_type(array, compute_type(dtype)) for array in arrays], dtype


def integer(function: str, name: str, value: Any, shape: tuple[int, ...]) -> jax.Array:
    """Integer labels of exactly `shape`."""
    labels = as_array(function, name, value)
    chex.assert_type(
        labels,
        int,
        custom_message=f"{function}: {name} must be integers, got {labels.dtype}",
        exception_type=TypeError,
    )
    require_shape(function, name, labels.shape, shape)
    return labels.astype(jnp.int32) if labels.dtype.itemsize < 4 else labels  # 8 bits do not count 1000 classes


def ignored(function: str, labels: Any, ignore_index: Any) -> jax.Array | None:
    """Where the labels are `ignore_index`, a number that their type can hold."""
    if ignore_index is None:
        return None
    dtype = as_array(function, "labels", labels).dtype
    if isinstance(ignore_index, (int, np.integer)) and jnp.issubdtype(dtype, jnp.integer):
        low, high = int(jnp.iinfo(dtype).min), int(jnp.iinfo(dtype).max)
        require(
            bool(low <= ignore_index <= high),
            f"{function}: ignore_index must be a number of the labels' type {dtype}, got {ignore_index}",
        )
        if type(ignore_index) is int:
            ignore_index = np.asarray(ignore_index, dtype)  # by itself it would be an int32
    return as_array(function, "labels", labels) == integer(function, "ignore_index", ignore_index, ()).astype(dtype)


def boolean(function: str, name: str, value: Any, shape: tuple[int, ...] | None = None) -> jax.Array:
    """Booleans, of exactly `shape` if one is given."""
    array = as_array(function, name, value)
    chex.assert_type(
        array,
        bool,
        custom_message=f"{function}: {name} must be boolean, got {array.dtype}",
        exception_type=TypeError,
    )
    if shape is not None:
        require_shape(function, name, array.shape, shape)
    return array


def require_shape(function: str, name: str, got: tuple[int, ...], wanted: tuple[int, ...], hint: str = "") -> None:
    require(got == wanted, f"{function}: {name} must have shape {wanted}, got {got}{hint}")


def beside(function: str, name: str, array: jax.Array, shape: tuple[int, ...], hint: str = "") -> jax.Array:
    """`array` with as many axes as `shape`, which it must not enlarge; its axes of size 1 are not written out."""
    chex.assert_is_broadcastable(
        array.shape,
        shape,
        custom_message=f"{function}: {name} must broadcast to shape {shape}, got {array.shape}{hint}",
        exception_type=ValueError,
    )
    return array.reshape((1,) * (len(shape) - array.ndim) + array.shape)


def broadcast(function: str, name: str, array: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`array` broadcast to `shape`, which it must not enlarge."""
    return jnp.broadcast_to(beside(function, name, array, shape), shape)


def common_shape(function: str, **arrays: jax.Array) -> tuple[int, ...]:
    """The shape that the arrays broadcast to."""
    try:
        return jnp.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError as error:
        shapes = " and ".join(f"{name} of shape {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{function}: {shapes} must broadcast with one another") from error


def mask(function: str, where: Any, shape: tuple[int, ...], axes: tuple[int, ...] = ()) -> jax.Array | None:
    """`where` as a boolean array of `shape`; one entry per example, without the class axes, serves too."""
    if where is None:
        return None
    where = boolean(function, "where", where)
    given, classes = where.shape, f"broadcast to shape {shape}"
    if axes and where.ndim == len(shape) - len(axes):
        where = jnp.expand_dims(where, axes)
        classes += f" with as many axes, or have one entry for each example, without axis {axes}"
    chex.assert_is_broadcastable(
        where.shape, shape, custom_message=f"{function}: where must {classes}, got {given}", exception_type=ValueError
    )
    return jnp.broadcast_to(where, shape)


def axes(function: str, axis: Axis, ndim: int, name: str = "axis") -> tuple[int, ...]:
    """`axis` as a tuple of distinct axes, counted from the front; None means all of them."""
    if axis is None:
        return tuple(range(ndim))
    require(ndim > 0, f"{function}: there must be an axis, got a single number with {name} {axis!r}")
    try:
        given = tuple(operator.index(a) for a in (axis if isinstance(axis, Sequence) else (axis,)))
    except TypeError:
        given = ()
    found = {a % ndim for a in given if -ndim <= a < ndim}
    require(
        0 < len(given) == len(found),
        f"{function}: {name} must be distinct integers in [{-ndim}, {ndim}), got {axis!r}",
    )
    return tuple(a % ndim for a in given)


def some_classes(function: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    classes = [shape[a] for a in axes]
    require(0 not in classes, f"{function}: there must be at least one class, got shape {shape} with axis {axes}")


def not_empty(function: str, name: str, array: jax.Array, axis: int = -1) -> None:
    require(
        array.ndim > 0 and array.shape[axis] > 0,
        f"{function}: {name} must have an axis {axis} that is not empty, got shape {array.shape}",
    )


def known_sizes(function: str, name: str, sizes: tuple, what: str) -> None:
    """Sizes that are numbers, not symbols of `jax.export`."""
    require(
        all(isinstance(n, int) for n in sizes),
        f"{function}: {name} must have as many {what} as a number says, not a symbol, got {sizes}",
    )


def matrix(function: str, name: str, array: jax.Array, wanted: str = "(examples, features)") -> None:
    require(array.ndim == 2, f"{function}: {name} must have shape {wanted}, got {array.shape}")


def option(
    function: str,
    name: str,
    value: Any,
    shape: tuple[int, ...],
    dtype: Any,
    low: float = 0.0,
    high: float = np.inf,
    positive: bool = False,
) -> jax.Array:
    """A numeric option in `dtype`, one number or some for each of `shape`, with as many axes.

    Python's and NumPy's numbers must lie in [low, high] and be finite in `dtype`; or, of a `positive` option, which
    divides, be normal, or infinite. An array of JAX may be traced, so is not asked.
    """
    with np.errstate(over="ignore"):
        array = real(function, name, value, dtype)
        values = np.asarray(value, np.float64).astype(dtype) if is_static(value) else None
    if values is not None:
        ends = ("(" if positive or low == -np.inf else "[") + ("]" if positive or high < np.inf else ")")
        usable = values >= jnp.finfo(dtype).tiny if positive else np.isfinite(values)
        require(
            bool(np.all((values >= low) & (values <= high) & usable)),
            f"{function}: {name} must be in {ends[0]}{low}, {high}{ends[1]}, as {dtype}, got {value}",
        )
    return beside(function, name, array, shape)


def weights(function: str, value: Any, dtype: Any) -> jax.Array:
    """Weights in `dtype`; Python's and NumPy's must not be negative."""
    array = real(function, "weights", value, dtype)
    if is_static(value):
        require(not np.any(np.asarray(value) < 0), f"{function}: weights must be >= 0, got {value}")
    return array


def flag(function: str, name: str, value: Any) -> None:
    """A boolean that is known while a function is traced."""
    require(isinstance(value, (bool, np.bool_)), f"{function}: {name} must be True or False, got {value!r}", TypeError)


def mapped(function: str, axis_name: Any) -> None:
    """A name of a mesh axis, or names, known where the function is called."""
    try:
        known = axis_name is None or jax.lax.axis_size(axis_name) > 0
    except NameError:
        known = False
    require(known, f"{function}: axis_name must be an axis that jax.shard_map splits over, got {axis_name!r}")


def not_split(function: str, axis_name: Any, what: str) -> None:
    require(axis_name is None, f"{function}: axis_name must be None {what}, got {axis_name!r}")


def is_static(value: Any) -> bool:
    """Whether it is known while a function is traced: a number of Python, a number or an array of NumPy."""
    return isinstance(value, (int, float, np.number, np.ndarray))


def is_number(value: Any, number: int) -> bool:
    """Whether an option is that number in Python, so that its term or factor can be left out; of a traced one it
    cannot."""
    return isinstance(value, (int, float)) and value == number


def real(function: str, name: str, value: Any, dtype: Any) -> jax.Array:
    """Labels, weights or an option, which may be numbers of any real type, as `dtype`."""
    array = as_array(function, name, value)
    require(
        array.dtype == bool or jnp.issubdtype(array.dtype, jnp.integer) or jnp.issubdtype(array.dtype, jnp.floating),
        f"{function}: {name} must be real, got {array.dtype}",
        TypeError,
    )
    return array.astype(dtype)


def as_array(function: str, name: str, value: Any) -> jax.Array:
    """NumPy's 64-bit integers, of which JAX would keep the last 32 bits, are the nearest of 32: a class that is not
    there stays so."""
    if isinstance(value, (np.ndarray, np.integer)) and value.dtype.kind in "iu":
        kept = jnp.iinfo(jax.dtypes.canonicalize_dtype(value.dtype))
        value = np.clip(value, kept.min, kept.max).astype(kept.dtype)
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        came = value if isinstance(value, int) else type(value).__name__
        raise TypeError(f"{function}: {name} must be a number or an array, got {came}") from error
