"""Floor 0: what devices that each hold a part of the classes say to one another, inside `jax.shard_map`.

Without a name of a mesh axis, each of these is what one device has.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

AxisName = Hashable | Sequence[Hashable] | None


def over_all(sums: Any, axis_name: AxisName) -> Any:
    """Sums of parts as sums of the whole, all in one all-reduce."""
    return sums if axis_name is None else jax.lax.psum(sums, axis_name)


def largest_of_all(x: jax.Array, axis_name: AxisName) -> jax.Array:
    return x if axis_name is None else jax.lax.pmax(x, axis_name)


def any_of_all(x: jax.Array, axis_name: AxisName) -> jax.Array:
    return x if axis_name is None else jax.lax.psum(x.astype(jnp.int32), axis_name) > 0


def devices(axis_name: AxisName) -> int:
    return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def first_class(n: int, axis_name: AxisName) -> jax.Array:
    """The number of the first of a device's n classes."""
    return jnp.int32(0) if axis_name is None else n * jax.lax.axis_index(axis_name)


def of_device(label: jax.Array, n: int, axis_name: AxisName) -> jax.Array:
    """A class of all counted from a device's first; below 0 or from n on it is another's."""
    return label if axis_name is None else label - first_class(n, axis_name).astype(label.dtype)


def spread(x: Any, *beside: Any) -> Any:
    """x, of each device's own wherever one of the arrays beside it is: what a loop carries must be so from the start.

    The transpose is a sum over those devices, taken once, outside of the loop.
    """
    axes = frozenset().union(*(_axes(a) for a in jax.tree.leaves(beside)))

    def of(a: jax.Array) -> jax.Array:
        missing = tuple(axes - _axes(a))
        return _pvary(a, missing) if missing else a

    return jax.tree.map(of, x)


def own_zeros(shape: tuple[int, ...], dtype: Any, *beside: Any) -> jax.Array:
    return spread(jnp.zeros(shape, dtype), *beside)


# What depends on JAX's version ------------------------------------------------------------------------------------


def _axes(x: Any) -> frozenset:
    """The mesh axes over which devices have numbers of their own."""
    kind: Any = jax.typeof(x)
    return frozenset(kind.mat.varying if hasattr(kind, "mat") else kind.vma)


def _pvary(x: jax.Array, axes: tuple) -> jax.Array:
    lax: Any = jax.lax
    return lax.pcast(x, axes, to="varying") if hasattr(lax, "pcast") else lax.pvary(x, axes)
