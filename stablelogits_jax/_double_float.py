"""Floor 0: numbers carried as an unevaluated sum of two floats, head + tail, with twice the digits of one."""

from decimal import Decimal
from typing import Any

import jax
import numpy as np

LN_2 = Decimal("0.693147180559945309417232121458176568075500134360255")
INV_E = Decimal("0.367879441171442321595523770161460867445811131031767")


def two_part(constant: Decimal, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """head = round(constant), tail = round(constant - head): the pair is right to twice the digits of `dtype`.

    XLA must not know the values: it folds (x - head) - tail to x - (head + tail), which is x - head.
    """
    scalar = np.dtype(dtype).type
    head = scalar(constant)
    return jax.lax.optimization_barrier((head, scalar(constant - Decimal(float(head)))))
