"""Inputs: where a float type can go wrong. Every grid has a fixed number of points, so that one program serves many."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

POINTS = 512  # of a grid of scalars or of pairs
ROWS = 48  # of a grid of rows
LN_2 = math.log(2)

# Of the C library, number by number: NumPy's own have other last digits where the processor has other instructions.
exp, exp2, log, power = (np.vectorize(f, otypes=[float]) for f in (math.exp, math.exp2, math.log, math.pow))


def generator() -> np.random.Generator:
    """The same numbers in every run."""
    return np.random.default_rng(20240229)


def log_uniform(rng: np.random.Generator, dtype: Any, count: int) -> np.ndarray:
    """Positive normal numbers of the type, every exponent alike."""
    info = jnp.finfo(dtype)
    return exp2(rng.uniform(info.minexp, info.maxexp, count))


def _scalars(rng: np.random.Generator, dtype: Any, near: Sequence[float]) -> np.ndarray:
    info = jnp.finfo(dtype)
    reach = 1.05 * math.log(float(info.max))  # exp neither overflows nor is flushed much before it
    steps = exp2(-rng.uniform(0, info.nmant + 1, (4 * POINTS, 1))) * rng.choice([-1, 1], (4 * POINTS, 1))
    pool = [
        rng.choice([-1, 1], POINTS) * log_uniform(rng, dtype, POINTS),
        rng.uniform(-reach, reach, 2 * POINTS),
        rng.uniform(-3, 3, POINTS),
        (np.array(near) * (1 + steps)).ravel(),
    ]
    always = [float(info.tiny), float(info.max), *near]
    return np.concatenate([always, np.negative(always), rng.permutation(np.concatenate(pool))])


def _rounded(x: np.ndarray, dtype: Any) -> np.ndarray:
    with np.errstate(over="ignore"):
        return x.astype(dtype)


def _normal(x: np.ndarray) -> np.ndarray:
    size = np.abs(x.astype(np.float64))
    return (size == 0) | (np.isfinite(size) & (size >= float(jnp.finfo(x.dtype).tiny)))


def line(
    dtype: Any,
    low: float = -np.inf,
    high: float = np.inf,
    near: Sequence[float] = (),
    keep: Callable[[np.ndarray], np.ndarray] = lambda x: x == x,
) -> tuple[np.ndarray]:
    """Numbers inside (low, high) that `keep` admits: all magnitudes, the range where exp is alive, and closing in on
    the points `near`."""
    rng = generator()
    x = _rounded(_scalars(rng, dtype, (1.0, 0.5, LN_2, *near)), dtype)
    x = x[_normal(x) & (x > low) & (x < high) & keep(x.astype(np.float64))]
    return (x[:POINTS],)


def unflushed(dtype: Any, exponent: np.ndarray) -> np.ndarray:
    """Where exp(-exponent), in the type that is computed in, is a normal number or of no consequence beside one.

    Between, XLA flushes it out of a sum that is itself normal.
    """
    smallest = -math.log(np.finfo(np.float64 if jnp.dtype(dtype).itemsize == 8 else np.float32).tiny)
    return (exponent < smallest - 12) | (exponent > smallest + 40)


def plane(
    dtype: Any,
    keep: Callable[[np.ndarray, np.ndarray], np.ndarray],
    near: tuple[Sequence[float], Sequence[float]] = ((), ()),
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that `keep` admits: apart, nearly equal, and a moderate distance from one another."""
    rng = generator()
    a, b = (rng.permutation(_scalars(rng, dtype, (1.0, *points))) for points in near)
    a, b = a[: 8 * POINTS], b[: 8 * POINTS]
    near_a = a * (1 - exp2(-rng.uniform(1, jnp.finfo(dtype).nmant, a.size)) * rng.choice([-1, 1], a.size))
    kinds = [(a, b), (a, near_a), (a, a + rng.uniform(-40, 40, a.size))]
    pairs = _rounded(rng.permutation(np.concatenate([np.stack(kind) for kind in kinds], axis=1), axis=1), dtype)
    a, b = pairs[:, np.all(_normal(pairs), axis=0) & keep(*pairs.astype(np.float64))]
    return a[:POINTS], b[:POINTS]


def flushed(x: np.ndarray, dtype: Any) -> np.ndarray:
    """Whether exp(x - max(x)) is about the smallest normal number of the type that is computed in.

    XLA flushes what is below it, and with it what it would be multiplied into: an entropy p log(1 / p) of 1e-36, say.
    """
    reach = LN_2 * (1022 if jnp.finfo(dtype).maxexp > 128 else 126)
    return np.abs(np.max(x, axis=-1, keepdims=True) - x - reach - 8) < 16


def rows(dtype: Any, classes: int, absent: bool = True, exact: bool = True) -> np.ndarray:
    """Logits [ROWS, classes]: spread, tied, confident, far from zero and, with `absent`, of missing classes (-inf).

    With `exact`, the distance between any two logits of a row is itself a number of the type: an error is then the
    function's own, and not the rounding of a difference, which every implementation has to take.
    """
    rng = generator()
    info = jnp.finfo(dtype)
    small = info.maxexp < 128  # float16: beyond 65504 there is nothing
    x = rng.normal(size=(ROWS, classes)) * rng.choice([0.01, 1.0, 10.0, 100.0], (ROWS, 1))
    kind = np.arange(ROWS) % 8
    top, each = rng.integers(classes, size=ROWS), np.arange(ROWS)
    x[kind == 1] = np.round(x[kind == 1])  # ties
    x[kind == 2] = x[kind == 2, :1]  # all equal
    confident = (kind == 3) | (kind == 4)
    x[confident] = rng.normal(size=(confident.sum(), classes))
    x[each[confident], top[confident]] += rng.uniform(17, 300, confident.sum())
    far = kind == 5
    x[far] += rng.choice([-1, 1], (far.sum(), 1)) * power(10, rng.uniform(2, 4.4 if small else 8, (far.sum(), 1)))
    x[kind == 6] = rng.uniform(-1e4, 1e4, (np.sum(kind == 6), classes))
    while (near := np.any(flushed(x, dtype), axis=1)).any():
        x[near] /= 2
    if exact:
        # Multiples of a unit that divides every logit, few enough for the digits of the type.
        size = np.maximum(np.max(np.abs(x), axis=1, keepdims=True), 2.0**-10)
        unit = np.ldexp(1.0, np.ceil(np.log2(2 * size)).astype(int) - info.nmant)
        x = np.round(x / unit) * unit
    if absent:
        missing = (rng.random(x.shape) < 0.4) & (kind == 7)[:, None]
        missing[each, top] = False
        x[missing] = -np.inf
    return x.astype(dtype)


def distributions(dtype: Any, logits: np.ndarray) -> np.ndarray:
    """Labels [ROWS, classes] for those logits, 0 on absent classes: one-hot, soft, and soft with zeros."""
    rng = generator()
    count, classes = logits.shape
    present = logits > -np.inf
    soft = rng.dirichlet(np.ones(classes), count)
    sparse = np.where(rng.random(soft.shape) < 0.5, soft, 0)
    hot = np.eye(classes)[integers(logits)]
    kind = rng.integers(3, size=(count, 1))
    return np.where(present, np.choose(kind, [hot, soft, sparse]), 0).astype(dtype)


def integers(logits: np.ndarray) -> np.ndarray:
    """A label [ROWS] for each row of logits, of a class that is present."""
    weight = generator().random(logits.shape)
    return np.argmax(np.where(logits > -np.inf, weight, -1), axis=-1).astype(np.int32)


def masks(logits: np.ndarray) -> np.ndarray:
    """A mask of the logits' shape that keeps at least one present class of each row."""
    keep = generator().random(logits.shape) < 0.6
    np.put_along_axis(keep, integers(logits)[:, None], True, axis=-1)
    return keep
