"""Rows of logits, number by number: how far each is from closed forms in a wider type (`_row_truths.py`)."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stablelogits_jax._checks import compute_type
from stablelogits_jax.verify._measure import flat_digest, float64_where_needed
from stablelogits_jax.verify._row_truths import WIDE, Rows, farthest, truths
from stablelogits_jax.verify._spec import imported
from stablelogits_jax.verify._specs import SPECS

# Powers of two, primes, vocabularies; the longest have few rows.
SIZES = (1, 2, 3, 10, 31, 199, 1000, 4099, 32768, 50257, 99991, 131072)
RESULTS = {"value": 0, "gradient": 1, "directional derivative": 1, "Hessian-vector product": 2}  # with their orders


# Rows -------------------------------------------------------------------------------------------------------------


def _one(rng: np.random.Generator, count: int, n: int) -> np.ndarray:
    """One class of each row."""
    return np.arange(n) == rng.integers(n, size=(count, 1))


def _cycle(count: int, *values: float) -> np.ndarray:
    """A value for each row."""
    return np.resize(values, (count, 1))


def random(rng: np.random.Generator, count: int, n: int) -> np.ndarray:
    return rng.normal(size=(count, n)) * _cycle(count, 1, 30, 0.01, 10)


def ties(rng: np.random.Generator, count: int, n: int) -> np.ndarray:
    """All equal but one, which has as much mass as all others; or of three values; or all equal."""
    three = rng.normal(size=(count, 3)) * 3
    picked = np.take_along_axis(three, rng.integers(_cycle(count, 3, 3, 1).astype(int), size=(count, n)), -1)
    return np.where(_cycle(count, 1, 0, 0) == 1, three[:, :1] + np.log(n) * _one(rng, count, n), picked)


def dominant(rng: np.random.Generator, count: int, n: int) -> np.ndarray:
    """One class leads, and has all but exp(-20) of the mass, or so."""
    return rng.normal(size=(count, n)) + (np.log(n) + _cycle(count, 20, 5, 60)) * _one(rng, count, n)


def spread(rng: np.random.Generator, count: int, n: int) -> np.ndarray:
    return rng.uniform(-1, 1, (count, n)) * _cycle(count, 1e4, 40, 1e3)


def offset(rng: np.random.Generator, count: int, n: int) -> np.ndarray:
    return rng.normal(size=(count, n)) * 3 + _cycle(count, 1e8, -100, 1e4, -1e8)


def absent(rng: np.random.Generator, count: int, n: int) -> np.ndarray:
    """Without 0.4 of the classes, or all but one."""
    gone = rng.random((count, n)) < _cycle(count, 0.4, 0.4, 1)
    return np.where(gone & ~_one(rng, count, n), -np.inf, rng.normal(size=(count, n)) * 5)


FAMILIES = {f.__name__: f for f in (random, ties, dominant, spread, offset, absent)}


def rows(family: str, n: int, dtype: Any, count: int) -> Rows:
    """The same rows in every run. Their labels are the top and any class in turn; one row in three has one-hot shares,
    and the others have shares of all classes or of half of them, that are present."""
    rng = np.random.default_rng([n, list(FAMILIES).index(family)])
    x = FAMILIES[family](rng, count, n)
    largest = float(jnp.finfo(dtype).max) / 2
    x = np.where(np.isinf(x), x, np.clip(x, -largest, largest)).astype(dtype)
    w, v = rng.normal(size=(2, count, n)).astype(dtype)
    present = x > -np.inf
    label = np.where(np.arange(count) % 2 == 0, np.argmax(x, -1), np.argmax(present * rng.random(x.shape), -1))
    hot = np.arange(n) == label[:, None]
    shares = present * rng.exponential(size=x.shape) * (rng.random(x.shape) < _cycle(count, 1, 0.5)) + 1e-3 * hot
    y = np.where(_cycle(count, 0, 0, 1) == 1, hot, shares / np.sum(shares, -1, keepdims=True))
    return Rows(x, w, v, y.astype(dtype), label.astype(np.int32))


# Their measure ----------------------------------------------------------------------------------------------------

FUNCTIONS: dict[str, Callable] = {
    "logsumexp": lambda f, x, y, label: f(x, axis=-1),
    "softmax": lambda f, x, y, label: f(x),
    "log_softmax": lambda f, x, y, label: f(x),
    "softmax_cross_entropy": lambda f, x, y, label: f(x, y),
    "softmax_cross_entropy_with_integer_labels": lambda f, x, y, label: f(x, label),
}


class Finding(NamedTuple):
    """The worst of one result: its error in unit roundoffs of its type, which is returned too, and in what row."""

    what: str
    error: float
    result: str
    family: str
    n: int
    broken: int  # NaN, or infinite where the truth is a finite number of the type


def results(f: Callable, of: Rows) -> list[list[jax.Array]]:
    """In the order of RESULTS, the last by forward over reverse, reverse over reverse and reverse over forward mode. A
    number of each row is differentiated as it is, a row of numbers times w."""
    x, w, v, y, label = (jnp.asarray(a) for a in of)

    def value(x: jax.Array) -> jax.Array:
        return f(x, y, label)

    def pulled(f: Callable, out_dot: jax.Array) -> Callable:
        return lambda x: jax.vjp(f, x)[1](out_dot)[0]

    def pushed(f: Callable) -> Callable:
        return lambda x: jax.jvp(f, (x,), (v,))[1]

    out = value(x)
    out_dot = jnp.ones_like(out) if out.ndim < x.ndim else w
    gradient, directional = pulled(value, out_dot), pushed(value)
    products = [f(x) for f in (pushed(gradient), pulled(gradient, v), pulled(directional, out_dot))]
    return [[out], [gradient(x)], [directional(x)], products]


def errors(
    got: np.ndarray, truth: np.ndarray, scale: np.ndarray | float, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """In unit roundoffs of max(|truth|, scale), 0 where the truth is below `least` or infinite; and what is broken."""
    info = jnp.finfo(got.dtype)
    got = got.astype(WIDE).reshape(truth.shape)
    finite = np.abs(truth) <= float(info.max)
    broken = np.isnan(got) | (finite & np.isinf(got)) | (~finite & (got != truth))
    measured = finite & ~broken & (np.abs(truth) >= max(least, float(info.tiny)))
    size = np.where(measured, np.maximum(np.abs(truth), scale), 1) * float(info.eps) / 2
    return np.abs(np.where(measured, got, 0) - np.where(measured, truth, 0)) / size, broken


def _least(dtype: Any, n: int, order: int) -> float:
    """XLA flushes what is below the smallest normal number of the type that is computed in, which is above the roundoff
    of what is below that number over a roundoff; of derivatives terms are flushed, one in a sum of n or more."""
    info = jnp.finfo(compute_type(jnp.dtype(dtype)))
    return float(info.tiny) / float(info.eps) * (1 if order == 0 else 16 * n)


Implementation = tuple[str, Callable | None]  # the name of a function, and what is measured for it: None is our own


def measured(
    implementations: Sequence[Implementation], dtype: Any, sizes: tuple[int, ...] = SIZES, count: int = 0
) -> list[dict[str, Finding]]:
    """Of each the worst of each result over all families and these sizes, `count` rows of each."""
    found: list[dict[str, Finding]] = [{} for _ in implementations]
    with float64_where_needed(dtype):
        runs = [_run(*implementation) for implementation in implementations]
        for n in sizes:
            for family in FAMILIES:
                of = rows(family, n, jnp.dtype(dtype), count or (12 if n <= 1000 else 3))
                exact = truths(of)
                for (name, _), run, before in zip(implementations, runs, found, strict=True):
                    for finding in _findings(run(tuple(of)), exact[name], dtype, family, n):
                        worst = before.get(finding.what, finding)
                        before[finding.what] = max(worst, finding, key=lambda a: (a.broken, a.error))
    return found


def _run(name: str, f: Callable | None) -> Any:
    f = partial(FUNCTIONS[name], f or getattr(import_module("stablelogits_jax"), name))
    return jax.jit(lambda of: results(f, Rows(*of)))


def code(name: str, dtype: str) -> list[str]:
    """Digests of what is measured, for rows that are summed at once, in fours, and in parts."""
    with float64_where_needed(dtype):
        of = [tuple(rows("random", n, jnp.dtype(dtype), 2)) for n in (10, 100, 2048)]
        return [flat_digest(_run(name, None).trace(a).jaxpr) for a in of]


def _findings(got: list, exact: list, dtype: Any, family: str, n: int) -> Iterator[Finding]:
    for what, all_got, (truth, scale) in zip(RESULTS, got, exact, strict=True):
        for result in map(np.asarray, all_got):
            error, broken = errors(result, truth, scale, _least(dtype, n, RESULTS[what]))
            yield Finding(what, float(np.max(error)), str(result.dtype), family, n, int(np.sum(broken)))


def peer(name: str) -> Callable | None:
    return imported(next(spec.peer for spec in SPECS if str(spec) == name))


def check_truths() -> None:
    """The truths of short rows beside mpmath."""
    for family in FAMILIES:
        for n in (1, 2, 7, 20):
            far = farthest(rows(family, n, jnp.dtype("float64"), 6))
            if not far <= 0.05:
                raise SystemExit(f"rows of {n} classes, {family}: their truths are {far} u off")
