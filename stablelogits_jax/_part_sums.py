"""Floor 2: sums over rows, [..., n], of a core that is element-wise, and their rules."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from stablelogits_jax._core import jvp_of_moved
from stablelogits_jax._row_sums import sums


@cache
def sum_of(part: Any) -> Callable:
    """The sum over a row of part(targets, log q, *options)"""

    @jax.custom_jvp
    def total(*arguments: jax.Array) -> jax.Array:
        return sums(part.closed, arguments[:2], arguments[2:], costly=True)[..., 0]

    @partial(total.defjvp, symbolic_zeros=True)
    def rule(primals: tuple, tangents: tuple) -> tuple:
        return total(*primals), jvp_of_moved(lambda *of: jnp.sum(part(*of), -1), primals, tangents)[1]

    return total
