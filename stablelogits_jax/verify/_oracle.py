"""Truth: the textbook formula in mpmath, differentiated by the oracle itself.

A formula is written once, over the numbers of this module: `+ - * /`, `exp`, `log`, `power`. Fed with mpmath numbers it
gives the value; fed with truncated Taylor series it gives every derivative along a line, exactly, because the series of
`f(x + t v)` has the coefficients `D^k f(x)[v, ..., v] / k!`. There is no JAX here and no derivative written by hand.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any

import mpmath
import numpy as np
from mpmath import isfinite, isinf, isnan, ldexp, mp, mpf, workprec

Number = Any  # an mpf or a Jet; mpmath makes its types while it is imported, so none can be named in an annotation
Formula = Callable[..., Number | list[Number]]

AGREEMENT = 80  # bits in which two working precisions must agree
LONGEST = 200_000  # bits at which the oracle gives up


class Jet:
    """The Taylor series `c[0] + c[1] t + ... + c[n] t**n`, cut off after t**n."""

    __slots__ = ("c",)

    def __init__(self, coefficients: Sequence[Number]):
        self.c = list(coefficients)

    def __add__(self, other):
        if isinstance(other, Jet):
            return Jet([a + b for a, b in zip(self.c, other.c, strict=True)])
        return Jet([self.c[0] + other, *self.c[1:]])

    def __mul__(self, other):
        if not isinstance(other, Jet):
            return Jet([a * other for a in self.c])
        return Jet([sum(self.c[j] * other.c[k - j] for j in range(k + 1)) for k in range(len(self.c))])

    def __truediv__(self, other):
        if not isinstance(other, Jet):
            return Jet([a / other for a in self.c])
        # q b = a, so q_k = (a_k - sum_{j>0} b_j q_{k-j}) / b_0.
        q = []
        for k, a in enumerate(self.c):
            q.append((a - sum(other.c[j] * q[k - j] for j in range(1, k + 1))) / other.c[0])
        return Jet(q)

    def __neg__(self):
        return Jet([-a for a in self.c])

    def __sub__(self, other):
        return self + -other

    def __rsub__(self, other):
        return -self + other

    def __rtruediv__(self, other):
        return Jet([other, *[mpf(0)] * (len(self.c) - 1)]) / self

    __radd__ = __add__
    __rmul__ = __mul__


@lru_cache(maxsize=4096)
def _exp(a: Number, bits: int) -> Number:
    return mpmath.exp(a)


@lru_cache(maxsize=4096)
def _log(a: Number, bits: int) -> Number:
    return mpmath.log(a)


def exp(a: Number) -> Number:
    """e**a. From e' = a' e: k e_k = sum_j j a_j e_{k-j}."""
    if not isinstance(a, Jet):
        return _exp(a, mp.prec)
    e = [_exp(a.c[0], mp.prec)]
    for k in range(1, len(a.c)):
        e.append(sum(j * a.c[j] * e[k - j] for j in range(1, k + 1)) / k)
    return Jet(e)


def log(a: Number) -> Number:
    """log a. From a l' = a': k a_0 l_k = k a_k - sum_{0<j<k} j l_j a_{k-j}."""
    if not isinstance(a, Jet):
        return _log(a, mp.prec)
    series = [_log(a.c[0], mp.prec)]
    for k in range(1, len(a.c)):
        series.append((a.c[k] - sum(j * series[j] * a.c[k - j] for j in range(1, k)) / k) / a.c[0])
    return Jet(series)


def power(a: Number, r: Number) -> Number:
    """a**r for a > 0."""
    return exp(r * log(a))


def value_of(a: Number) -> Number:
    """The number itself, without its derivatives."""
    return a.c[0] if isinstance(a, Jet) else a


def along(formula: Formula, args: Sequence, wrt: Sequence[int], direction: dict[int, Number], order: int) -> np.ndarray:
    """D^k f(x)[v, ..., v] for k = 0 ... order: an array [order + 1, outputs].

    Args:
      formula: the textbook formula, of scalars and lists of scalars.
      args: its arguments; what is not in `wrt` is handed on as it is.
      wrt: the arguments that are numbers and may be differentiated.
      direction: v, by position among the scalars of those arguments; the others stand still.
      order: of the highest derivative.
    """
    position = 0

    def seeded(x):
        nonlocal position
        if isinstance(x, list):
            return [seeded(a) for a in x]
        v = direction.get(position)
        position += 1
        return mpf(x) if v is None else Jet([mpf(x), mpf(v), *[mpf(0)] * (order - 1)])

    out = formula(*[seeded(x) if i in wrt else x for i, x in enumerate(args)])
    out = out if isinstance(out, list) else [out]
    series = [a.c if isinstance(a, Jet) else [a, *[mpf(0)] * order] for a in out]
    return np.array([[mp.factorial(k) * c[k] for c in series] for k in range(order + 1)], dtype=object)


def _size(x) -> int:
    return sum(_size(a) for a in x) if isinstance(x, list) else 1


def _tensors(formula: Formula, args: Sequence, wrt: Sequence[int], order: int) -> list[np.ndarray]:
    inputs = sum(_size(args[i]) for i in wrt)
    if order == 0:
        return [along(formula, args, wrt, {}, 0)[0]]
    lines = [along(formula, args, wrt, {i: 1}, order) for i in range(inputs)]
    tensors = [lines[0][0], np.stack([line[1] for line in lines], axis=-1)]
    if order == 2:
        # Polarisation: D2f[u, v] = (D2f[u+v, u+v] - D2f[u, u] - D2f[v, v]) / 2.
        second = np.empty((*tensors[1].shape, inputs), dtype=object)
        for i in range(inputs):
            second[:, i, i] = lines[i][2]
        for i, j in combinations(range(inputs), 2):
            both = along(formula, args, wrt, {i: 1, j: 1}, 2)[2]
            second[:, i, j] = second[:, j, i] = (both - lines[i][2] - lines[j][2]) / 2
        tensors.append(second)
    return tensors


def _agree(a: Number, b: Number, negligible: Number) -> bool:
    if not (isfinite(a) and isfinite(b)):
        return (isnan(a) and isnan(b)) or (isinf(a) and a == b)
    size = max(abs(a), abs(b))
    return size < negligible or abs(a - b) <= ldexp(size, -AGREEMENT)


def derivatives(formula: Formula, args: Sequence, wrt: Sequence[int], order: int, exponents: int) -> list[np.ndarray]:
    """Value [m], slope [m, k] and curvature [m, k, k] of m outputs in k inputs, up to `order` (at most 2).

    What is lost in a sum at p bits is below 2**-p of it. The first precision therefore covers twice the exponents of
    the float type, so that nothing the type can hold is lost in a sum with 1 or with its inverse; then the precision
    is doubled until two answers agree, or are both beyond what the type can hold.

    Args:
      formula, args, wrt: as for `along`.
      order: of the highest derivative, 0, 1 or 2.
      exponents: how many binary exponents the float type has below 1.
    """
    bits, negligible = 2 * exponents + 2 * AGREEMENT, ldexp(mpf(1), -exponents - AGREEMENT)
    with workprec(bits):
        rough = _tensors(formula, args, wrt, order)
    while bits < LONGEST:
        bits *= 2
        with workprec(bits):
            fine = _tensors(formula, args, wrt, order)
            pairs = (pair for r, f in zip(rough, fine, strict=True) for pair in zip(r.flat, f.flat, strict=True))
            if all(_agree(a, b, negligible) for a, b in pairs):
                return fine
        rough = fine
    raise ArithmeticError(f"the formula does not settle within {LONGEST} bits at {args}")
