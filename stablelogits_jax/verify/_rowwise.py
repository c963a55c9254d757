"""Rows of logits, number by number: how far each is from closed forms in a wider type.

The wider type is the x86 long double, with 11 bits more than float64. Its exponential of a difference that is not
rounded (see `_exp_of_difference`), and its sums in trees of 131,072 terms, err by some 30 of its units, and nothing in
the forms cancels beyond the scale that an error is measured by: they are right to 0.02 units of float64. The tests hold
them to mpmath on short rows.
"""

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stablelogits_jax._checks import compute_type
from stablelogits_jax.verify._measure import float64_where_needed

WIDE = np.longdouble if np.finfo(np.longdouble).nmant >= 63 else np.float64
SIZES = (1, 2, 3, 10, 31, 1000, 32768, 131072)
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


class Rows(NamedTuple):
    """Logits; what gradients and Hessians are multiplied by; and labels, as shares and as a class of each row."""

    x: np.ndarray
    w: np.ndarray
    v: np.ndarray
    y: np.ndarray
    label: np.ndarray


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


# Their truths -----------------------------------------------------------------------------------------------------


def _sum(a: np.ndarray) -> np.ndarray:
    return np.sum(a, -1, keepdims=True)


def _exp_of_difference(x: np.ndarray, top: np.ndarray) -> np.ndarray:
    """exp(x - top) = exp(d) (1 + lost), with x - top = d + lost exactly (Knuth's two-sum)."""
    finite = np.where(np.isinf(x), top, x)
    d = finite - top
    back = d - finite
    lost = (finite - (d - back)) - (top + back)
    return np.where(np.isinf(x), 0, np.exp(d) * (1 + lost))


def truths(of: Rows) -> dict[str, list[tuple[np.ndarray, np.ndarray | float]]]:
    """Of each function the results in the order of RESULTS, and the scales of the terms that cancel in them.

    With t the top class, p = e / total, and sum' the sum without t, where 1 - p_t = sum' p:
        log total         = log1p(sum' e)
        surprisal s_i     = log total + (x_t - x_i)            no term is negative, and the scale is the truth
        logsumexp         = x_t + log total                    may cross 0: scale |x_t|
    Any constant may be taken from w and v where a row sums to 0. With a = w - w_t and b = v - v_t
        softmax' w        = p_i (a_i - m(a))                   m(a) = sum' p a; scale p_i (|a_i| + m(|a|))
        softmax'' w v     = p_i ((a_i - m(a)) (b_i - m(b)) - c)        c = sum' p a b - m(a) m(b), and at t what is
                            p_t (2 m(a) m(b) - sum' p a b)             left; the scale has all terms, products and sums
        balance(w)_i      = w_i - p_i sum w, at t w_t sum' p - p_t sum' w; scale: the sum of both terms' sizes
    balance is log_softmax' transposed, and for labels minus the slope of the cross entropy. Its slope is
    -(softmax' v) sum w, whose sum may cancel too. For one label, no term of it cancels: its scale is the truth.
    """
    x, w, v, y = (a.astype(WIDE) for a in of[:4])
    hot = np.arange(x.shape[-1]) == of.label[:, None]
    is_top = np.arange(x.shape[-1]) == np.argmax(x, -1)[:, None]
    top = np.max(x, -1, keepdims=True)

    def others(a: np.ndarray) -> np.ndarray:
        return _sum(np.where(is_top, 0, a))

    e = _exp_of_difference(x, top)
    log_total = np.log1p(others(e))
    p, surprisal = e / _sum(e), log_total + (top - x)
    a, b = w - _sum(w * is_top), v - _sum(v * is_top)

    def mean(a: np.ndarray) -> np.ndarray:
        return others(p * a)

    def size(a: np.ndarray) -> np.ndarray:
        return np.abs(a) + mean(np.abs(a))

    def softmax_slope(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return p * (a - mean(a)), p * size(a)

    def balance(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at_top = w * others(p) - p * others(w)
        size_at_top = np.abs(w) * others(p) + p * others(np.abs(w))
        rest = np.abs(w) + p * _sum(np.abs(w))
        return np.where(is_top, at_top, w - p * _sum(w)), np.where(is_top, size_at_top, rest)

    def times(factor: np.ndarray, pair: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return _sum(factor) * pair[0], _sum(np.abs(factor)) * pair[1]

    product = mean(a * b)
    curvature = np.where(is_top, 2 * mean(a) * mean(b) - product, (a - mean(a)) * (b - mean(b)) - product)
    curvature = p * (curvature + np.where(is_top, 0, mean(a) * mean(b)))
    curvature_scale = p * (size(a) * size(b) + mean(np.abs(a * b)) + mean(np.abs(a)) * mean(np.abs(b)))
    slope, scale = balance(y)
    share = np.where(y > 0, y, 0) * np.where(y > 0, surprisal, 0)
    in_v = _sum(p * v), _sum(p * np.abs(v))
    return {
        "logsumexp": [(top + log_total, np.abs(top)), (p, 0.0), in_v, softmax_slope(b)],
        "softmax": [(p, 0.0), softmax_slope(a), softmax_slope(b), (curvature, curvature_scale)],
        "log_softmax": [
            (-surprisal, 0.0),
            balance(w),
            (b - mean(b), size(b)),
            times(-w, softmax_slope(b)),
        ],
        "softmax_cross_entropy": [
            (_sum(share), 0.0),
            (-slope, scale),
            (-_sum(slope * v), _sum(scale * np.abs(v))),
            times(y, softmax_slope(b)),
        ],
        "softmax_cross_entropy_with_integer_labels": [
            (_sum(np.where(hot, surprisal, 0)), 0.0),
            (-balance(hot.astype(WIDE))[0], 0.0),
            (-_sum(balance(hot.astype(WIDE))[0] * v), _sum(np.abs(balance(hot.astype(WIDE))[0] * v))),
            softmax_slope(b),
        ],
    }


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


def results(f: Callable, of: Rows) -> tuple[jax.Array, ...]:
    """In the order of RESULTS. A number of each row is differentiated as it is, a row of numbers times w."""
    x, w, v, y, label = (jnp.asarray(a) for a in of)

    def value(x: jax.Array) -> jax.Array:
        return f(x, y, label)

    def gradient(x: jax.Array) -> jax.Array:
        out, pullback = jax.vjp(value, x)
        return pullback(jnp.ones_like(out) if out.ndim < x.ndim else w)[0]

    return value(x), gradient(x), jax.jvp(value, (x,), (v,))[1], jax.jvp(gradient, (x,), (v,))[1]


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


def measured(
    name: str, dtype: Any, sizes: tuple[int, ...] = SIZES, count: int = 0, f: Callable | None = None
) -> Iterator[Finding]:
    """The worst of each result over all families and these sizes, `count` rows of each."""
    f = partial(FUNCTIONS[name], f or getattr(import_module("stablelogits_jax"), name))
    found = {}
    with float64_where_needed(dtype):
        run = jax.jit(lambda of: results(f, Rows(*of)))
        for n in sizes:
            for family in FAMILIES:
                of = rows(family, n, jnp.dtype(dtype), count or (12 if n <= 1000 else 1))
                for what, got, exact in zip(RESULTS, run(tuple(of)), truths(of)[name], strict=True):
                    error, broken = errors(np.asarray(got), *exact, _least(dtype, n, RESULTS[what]))
                    finding = Finding(what, float(np.max(error)), str(got.dtype), family, n, int(np.sum(broken)))
                    found[what] = max(found.get(what, finding), finding, key=lambda a: (a.broken, a.error))
    yield from found.values()
