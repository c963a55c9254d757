"""The functions of one number in float64, at 100,000 numbers chosen to find their worst, beside mpmath.

The numbers are the same in every run: `points(name)` is the published set.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from stablelogits_jax.verify._measure import float64_where_needed
from stablelogits_jax.verify._metric import Exact, ulp_error
from stablelogits_jax.verify._oracle import derivatives
from stablelogits_jax.verify._specs import SPECS
from stablelogits_jax.verify._sweep import DOMAINS, ORDERS, Tally, merged, orders

COUNT = 100_000
CHUNK = 1_000
EXPONENTS = 1074  # of the smallest subnormal number

# Where functions cross zero or forms give way to one another: from these points outwards by 1, 2, 4, ... ulps.
POINTS = (
    0.0,
    2.0**-20,
    0.1,
    0.25,
    0.35,
    np.exp(-1),
    0.5,
    np.log(2),
    0.75,
    1.0,
    1.6,
    2.0,
    17.0,
    37.0,
    354.0,
    708.0,
    744.0,
)


def points(name: str, count: int = COUNT) -> np.ndarray:
    """Numbers that the function is defined on: a quarter of all magnitudes, a quarter where exp is alive, a quarter
    near 0, and a quarter near the points where forms change or the exponent of exp(x) does, k log(2) / 2."""
    rng, quarter = np.random.default_rng(20240229), count
    halves = np.arange(1, 2150) * (np.log(2) / 2)
    centres = rng.choice(np.concatenate([np.repeat(POINTS, 100), halves]), quarter)
    parts = [
        np.exp2(rng.uniform(-1022, 1024, quarter)),
        rng.uniform(0, 745, quarter),
        rng.uniform(0, 3, quarter),
        np.abs(centres + np.spacing(centres) * np.exp2(rng.uniform(0, 52, quarter)) * rng.choice([-1, 1], quarter)),
    ]
    low, high = DOMAINS[name]
    kept = []
    for part in parts:
        x = part * rng.choice([-1, 1], quarter)
        if np.isinf(high) != np.isinf(low):
            x = np.abs(x) * (1 if low == 0 else -1)
        if high == 1:  # the magnitudes, and their distances from 1
            x = np.abs(np.where(part > 1, 1 / part, part))
            x = np.where(rng.integers(0, 2, quarter) == 0, x, 1 - x)
        kept.append(x[(x > low) & (x < high)][: count // 4])
    return np.concatenate(kept)


def tallies(name: str, x: np.ndarray) -> list[Tally]:
    """Of value, slope and curvature at these numbers."""
    spec = next(spec for spec in SPECS if spec.name == name)
    truths = [derivatives(spec.formula, [float(a)], (0,), 2, EXPONENTS) for a in x]
    with float64_where_needed("float64"):
        results = jax.jit(lambda x: orders(spec.ours(), x))(jnp.asarray(x))
    found = []
    for order, result in enumerate(results):
        exact = Exact.of(np.array([truth[order].flat[0] for truth in truths]))
        errors = ulp_error(np.asarray(result), exact)
        broken = np.isinf(errors)
        worst = int(np.argmax(np.where(broken, 0, errors)))
        found.append(
            Tally(x.size, int(np.sum(errors > 0.5)), int(np.sum(broken)), float(errors[worst]), float(x[worst]))
        )
    return found


def measured(name: str, count: int = COUNT) -> Iterator[tuple[int, list[Tally]]]:
    """How many numbers are done, and their tallies."""
    x, total = points(name, count), [Tally()] * len(ORDERS)
    for start in range(0, x.size, CHUNK):
        total = [merged(a, b) for a, b in zip(total, tallies(name, x[start : start + CHUNK]), strict=True)]
        yield min(start + CHUNK, x.size), total
