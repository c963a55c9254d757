"""Floor 2: sums over rows, [..., n], of a core that is element-wise, and their rules."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from stablelogits_jax._row_sums import sums


@cache
def sum_of(part: Any) -> Callable:
    """The sum over a row of part(targets, log q, *options)"""

    @jax.custom_jvp
    def total(*arguments: jax.Array) -> jax.Array:
        return sums(part.closed, arguments[:2], arguments[2:], costly=True)[..., 0]

    @partial(total.defjvp, symbolic_zeros=True)
    def rule(primals: tuple, tangents: tuple) -> tuple:
        moved = [i for i, t in enumerate(tangents) if not isinstance(t, SymbolicZero)]

        def of_moved(*values: jax.Array) -> jax.Array:
            given = dict(zip(moved, values, strict=True))
            return jnp.sum(part(*(given.get(i, a) for i, a in enumerate(primals))), -1)

        return total(*primals), jax.jvp(of_moved, [primals[i] for i in moved], [tangents[i] for i in moved])[1]

    return total
