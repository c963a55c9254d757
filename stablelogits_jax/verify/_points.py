"""The functions of one number in float64, at numbers chosen to find their worst, beside mpmath.

The numbers are the same in every run: `points(name)` is the published set.
"""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from stablelogits_jax.verify._measure import float64_where_needed
from stablelogits_jax.verify._metric import Exact, ulp_error
from stablelogits_jax.verify._oracle import derivatives
from stablelogits_jax.verify._specs import SPECS
from stablelogits_jax.verify._sweep import DOMAINS, NOTHING, ORDERS, Tally, code, keep, kept, orders, total

COUNT = 100_000
CHUNK = 1_000
EXPONENTS = 1074  # of the smallest subnormal number

LN_2, INV_E = 0.6931471805599453, 0.36787944117144233
LOG_3_8, LOG_5_16 = 0.9808292530117262, 1.1631508098056809  # but for their signs

# Where functions cross zero or forms give way to one another: from these points outwards by 1, 2, 4, ... ulps.
POINTS = (
    *(0.0, 1e-8, 2.0**-20, 0.1, 0.25, 0.3125, 0.35, INV_E, 0.375, 0.42, 0.5, LN_2, 0.75, 0.8),
    *(LOG_3_8, 1.0, LOG_5_16, 1.6, 2.0, 17.0, 20.0, 37.0, 40.0, 354.0, 708.0, 744.0),
)


def _all_sizes(rng: np.random.Generator, low: int, high: int, count: int) -> np.ndarray:
    """Numbers in [2^low, 2^high), every exponent alike, by exact operations: the same on every machine."""
    return np.ldexp(rng.uniform(1, 2, count), rng.integers(low, high, count))


def points(name: str, count: int = COUNT) -> np.ndarray:
    """Numbers that the function is defined on: a quarter of all magnitudes, a quarter where exp is alive, a quarter
    near 0, and a quarter near the points where forms change or the exponent of exp(x) does, k log(2) / 2."""
    rng = np.random.default_rng(20240229)
    halves = np.arange(1, 2150) * (LN_2 / 2)
    centres = rng.choice(np.concatenate([np.repeat(POINTS, 100), halves]), count)
    away = np.spacing(centres) * _all_sizes(rng, 0, 52, count) * rng.choice([-1, 1], count)
    magnitudes, alive = _all_sizes(rng, -1022, 1024, count), rng.uniform(0, 745, count)
    low, high = DOMAINS[name]
    parts = []
    for part in (magnitudes, alive, rng.uniform(0, 3, count), np.abs(centres + away)):
        x = part * rng.choice([-1, 1], count)
        if np.isinf(high) != np.isinf(low):
            x = np.abs(x) * (1 if low == 0 else -1)
        if high == 1:  # the magnitudes, and their distances from 1
            x = np.where(part > 1, 1 / np.maximum(part, 1), part)
            x = np.where(rng.integers(0, 2, count) == 0, x, 1 - x)
        parts.append(x[(x > low) & (x < high)][: count // 4])
    return np.concatenate(parts)


def key(name: str) -> str:
    """A digest of the code, and one of the numbers."""
    return f"{code(name, 'float64')} {hashlib.sha256(points(name).tobytes()).hexdigest()[:16]}"


def measured(name: str, folder: Path, count: int = COUNT) -> Iterator[tuple[int, list[Tally], list[Tally]]]:
    """How many numbers are done, our tallies, and the peer's, or none. The folder keeps what was found at the end, and
    of what versions the peer is."""
    file, spec = folder / f"{name}.json", next(spec for spec in SPECS if spec.name == name)
    digest, versions = key(name), {"jax": jax.__version__, "optax": version("optax")}
    before = kept(file, digest)
    if before and versions.items() <= before.items():
        ours, peer = ([Tally(*tally) for tally in before[key]] for key in ("ours", "peer"))
        yield before["count"], ours, peer
        return
    implementations = [jax.jit(partial(orders, f)) for f in (spec.ours(), spec.peers()) if f]
    x, found = points(name, count), [NOTHING for _ in implementations]
    for start in range(0, x.size, CHUNK):
        chunk = x[start : start + CHUNK]
        truths = [derivatives(spec.formula, [float(a)], (0,), 2, EXPONENTS) for a in chunk]
        exact = [Exact.of(np.array([truth[order].flat[0] for truth in truths])) for order in range(len(ORDERS))]
        found = [total([a, _tallies(f, chunk, exact)]) for a, f in zip(found, implementations, strict=True)]
        yield start + chunk.size, found[0], (found[1:] or [[]])[0]
    keep(file, digest, **versions, count=x.size, ours=found[0], peer=(found[1:] or [[]])[0])


def _tallies(f: Callable, x: np.ndarray, exact: list[Exact]) -> list[Tally]:
    with float64_where_needed("float64"):
        results = [np.asarray(result) for result in f(jnp.asarray(x))]
    found = []
    for result, truth in zip(results, exact, strict=True):
        errors = ulp_error(result, truth)
        broken = np.isinf(errors)
        worst = int(np.argmax(np.where(broken, 0, errors)))
        over_half = int(np.sum(errors > 0.5))
        found.append(Tally(x.size, over_half, int(np.sum(broken)), float(errors[worst]), float(x[worst])))
    return found
