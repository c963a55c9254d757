"""What is promised of one public function, as data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import jax.numpy as jnp
import numpy as np

from stablelogits_jax.verify._metric import Exact
from stablelogits_jax.verify._oracle import Formula, derivatives

Scale = Callable[..., np.ndarray] | None


@dataclass(frozen=True)
class Limit:
    """Value and slopes at one point where a formula has a limit or none: infinities, edges of the domain, NaN.

    `slopes` is the Jacobian flattened, outputs first; None in it or for it leaves a slope unsaid.
    """

    args: tuple
    value: Any
    slopes: Sequence[float | None] | None = None


SINGLE, SIXTEEN_BITS = 0.6, 0.501  # ulps of a function of one number in float32 and in 16 bits


@dataclass(frozen=True)
class Spec:
    """One row of the table: a public function, with one choice of options.

    Attributes:
      name: the public name.
      formula: the textbook formula, over the numbers of the oracle, for one example.
      grid: from a float type to the arguments, batched along the first axis.
      budget: the worst error allowed in ulps, for value, slope and curvature.
      one_number: whether it is a function of one number, of which float32 and the 16-bit types have a budget of their
        own at each order: it is computed in double-float.
      wrt: the arguments that are differentiated.
      call: from an implementation to a function of the grid's arguments; it sets the options.
      scale: for value, slope and curvature what an ulp is taken of where that is more than the true result; each is
        one of `_scales.py`, which gives the reason.
      limits: what the grid cannot hold.
      peer: the function to compare with, as a dotted name.
      options: the options that `call` sets, in words.
    """

    name: str
    formula: Formula
    grid: Callable[[Any], tuple[np.ndarray, ...]]
    budget: tuple[float, float, float]
    one_number: bool = False
    wrt: tuple[int, ...] = (0,)
    call: Callable[[Callable], Callable] = lambda f: f
    scale: Sequence[Scale] = (None, None, None)
    limits: tuple[Limit, ...] = ()
    peer: str | None = None
    options: str = ""

    def __str__(self) -> str:
        return f"{self.name}[{self.options}]" if self.options else self.name

    def allowed(self, order: int, dtype: Any) -> float:
        """The budget in a type: 16-bit results are computed in float32 and rounded once."""
        bits = 8 * jnp.dtype(dtype).itemsize
        if bits == 16:
            return min(self.budget[order], SIXTEEN_BITS if self.one_number else 1.0)
        return SINGLE if self.one_number and bits == 32 else self.budget[order]

    def ours(self) -> Callable:
        return self.call(getattr(import_module("stablelogits_jax"), self.name))

    def peers(self) -> Callable | None:
        peer = imported(self.peer)
        return None if peer is None else self.call(peer)


def imported(path: str | None) -> Callable | None:
    """What a dotted name stands for, or None where there is none or its library is not installed."""
    module, _, name = (path or "").rpartition(".")
    try:
        return getattr(import_module(module), name) if path else None
    except (ImportError, AttributeError):
        return None


@cache
def truth(spec: Spec, dtype: Any, order: int = 2) -> tuple[Exact, ...]:
    """The exact value, slope and curvature on the grid of a type, up to an order."""
    exponents = jnp.finfo(dtype).nmant - jnp.finfo(dtype).minexp
    columns = [a.tolist() if a.dtype.kind in "bi" else a.astype(np.float64).tolist() for a in spec.grid(dtype)]
    points = [derivatives(spec.formula, args, spec.wrt, order, exponents) for args in zip(*columns, strict=True)]
    return tuple(Exact.of(np.stack(tensors)) for tensors in zip(*points, strict=True))
