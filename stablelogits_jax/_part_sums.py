"""Floor 2: sums over rows, [..., n], of a core that is element-wise, and their rules."""

from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from stablelogits_jax import _stats
from stablelogits_jax._double_float import in_one_loop


@cache
def sum_of(part: Any) -> Callable:
    """The sum over a row of part(targets, log q, *options)"""

    @jax.custom_jvp
    def total(*arguments: jax.Array) -> jax.Array:
        return _sum_of_parts(part.closed, arguments[:2], arguments[2:])

    @partial(total.defjvp, symbolic_zeros=True)
    def rule(primals: tuple, tangents: tuple) -> tuple:
        moved = [i for i, t in enumerate(tangents) if not isinstance(t, SymbolicZero)]

        def of_moved(*values: jax.Array) -> jax.Array:
            given = dict(zip(moved, values, strict=True))
            return jnp.sum(part(*(given.get(i, a) for i, a in enumerate(primals))), -1)

        return total(*primals), jax.jvp(of_moved, [primals[i] for i in moved], [tangents[i] for i in moved])[1]

    return total


def _sum_of_parts(f: Callable, rows: tuple[jax.Array, ...], options: tuple[jax.Array, ...]) -> jax.Array:
    """The sum over rows of an element-wise f, of pieces of them that are added as arrays, in one loop: XLA:CPU
    vectorises that, and writes out but a quarter of the numbers that it sums."""
    n = rows[0].shape[-1]
    if not isinstance(n, int) or n < 2 * _stats.PART:  # a short array is in a cache
        return jnp.sum(in_one_loop(rows[1], f(*rows, *options)), -1)
    parts = [_stats._parts(x) for x in rows]
    if parts[0].ndim > rows[0].ndim:
        options = tuple(a[..., None] for a in options)
    n = parts[0].shape[-1]
    unit = max(_stats.UNITS)
    width = unit * (n // (4 * unit))

    def pieces(*ends: int) -> jax.Array:
        terms = [f(*(x[..., a:b] for x in parts), *options) for a, b in pairwise(ends)]
        while len(terms) > 1:
            odd = terms[len(terms) & ~1 :]
            terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)] + odd
        return in_one_loop(parts[1][..., : terms[0].shape[-1]], terms[0])

    whole = n - n % width
    few = pieces(*range(0, whole + 1, width))
    if whole < n:
        few = jnp.concatenate([few, pieces(whole, n)], -1)
    return jnp.sum(few, range(rows[0].ndim - 1, few.ndim))
