"""Error in ulps of a float type against an exact answer; a correctly rounded result is at most 0.5 away."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from mpmath import frexp, isinf, isnan

FARTHEST = 1 << 20  # exponents beyond it stand for "far outside every float type"


class Exact(NamedTuple):
    """(high + low) * 2**exponent with 1/2 <= |high| <= 1: a float64 alone holds neither the digits nor the range."""

    high: np.ndarray
    low: np.ndarray
    exponent: np.ndarray

    @classmethod
    def of(cls, numbers: np.ndarray) -> "Exact":
        """From an array of mpmath numbers."""
        parts = [_split(a) for a in numbers.flat]
        return cls(*(np.array(column).reshape(numbers.shape) for column in zip(*parts, strict=True)))

    def rounded(self) -> np.ndarray:
        """The nearest float64, for printing and for the sizes of scales."""
        with np.errstate(over="ignore"):
            return np.ldexp(self.high, np.clip(self.exponent, -FARTHEST, FARTHEST))


def _split(a: Any) -> tuple[float, float, int]:
    if isnan(a) or isinf(a) or a == 0:
        return float(a), 0.0, -FARTHEST
    mantissa, exponent = frexp(a)
    high = float(mantissa)
    return high, float(mantissa - high), max(-FARTHEST, min(int(exponent), FARTHEST))


def ulp_error(actual: np.ndarray, truth: Exact, scale: np.ndarray | float = 0.0) -> np.ndarray:
    """How many ulps of max(|truth|, scale) lie between the result and the truth, in the result's own float type.

    - XLA flushes subnormals on most backends: 0 is as good as any truth below the smallest normal number (or within
      rounding of it), and a subnormal truth is measured by the spacing of the subnormals.
    - Infinity is what follows the largest finite number; a truth beyond it must give infinity, of the right sign.
    - NaN, or an infinity where the truth is well inside the range, is infinitely wrong; so is a number for a true NaN.
    """
    info: Any = jnp.finfo(actual.dtype)
    digits = info.nmant + 1
    result = np.asarray(actual, np.float64)

    def units(x, exponent):  # x * 2**exponent, in units of 2**unit
        return np.ldexp(x, np.clip(exponent - unit, -FARTHEST, FARTHEST))

    scale_exponent = np.frexp(np.asarray(scale, np.float64))[1] * np.ones_like(truth.exponent)
    scale_exponent = np.where(np.asarray(scale) > 0, scale_exponent, -FARTHEST)
    unit = np.maximum(np.maximum(truth.exponent, scale_exponent), info.minexp + 1)

    with np.errstate(over="ignore", invalid="ignore"):
        next_to_max = np.isinf(result) & (truth.exponent == info.maxexp)
        mantissa, exponent = np.frexp(np.where(next_to_max, np.sign(result) * 0.5, result))
        exponent = np.where(next_to_max, info.maxexp + 1, exponent)
        high, low = units(truth.high, truth.exponent), units(truth.low, truth.exponent)
        error = np.abs((units(mantissa, exponent) - high) - low) * 2.0**digits

        edge = units(0.5 + 8 * 2.0**-digits, info.minexp + 1)
        error = np.where((result == 0) & (np.abs(high) < edge), 0, error)
        beyond = (truth.exponent > info.maxexp) | np.isinf(truth.high)
        error = np.where(beyond, np.where(result == np.sign(truth.high) * np.inf, 0, np.inf), error)
    undefined = np.isnan(result) | np.isnan(truth.high)
    return np.where(undefined, np.where(np.isnan(result) & np.isnan(truth.high), 0, np.inf), error)
