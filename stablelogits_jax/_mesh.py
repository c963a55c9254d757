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


def devices(axis_name: AxisName) -> int:
    return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def first_class(n: int, axis_name: AxisName) -> jax.Array | int:
    """The number of the first of a device's n classes."""
    return 0 if axis_name is None else n * jax.lax.axis_index(axis_name)


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
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(x, axes, to="varying")
    return jax.lax.pvary(x, axes)
