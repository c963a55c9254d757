"""The error in ulps, by cases that can be counted by hand."""

from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mpf, workprec

from stablelogits_jax.verify._metric import Exact, ulp_error

INF, NAN = float("inf"), float("nan")
MAX = float(np.finfo(np.float32).max)
TINY = float(np.finfo(np.float32).tiny)


def error(result, truth, dtype="float32", scale=0.0):
    with workprec(2000):
        number = mpf(truth.numerator) / truth.denominator if isinstance(truth, Fraction) else mpf(truth)
        exact = Exact.of(np.array([number], dtype=object))
    return ulp_error(np.array([result], jnp.dtype(dtype)), exact, scale).item()


@pytest.mark.parametrize(
    ("dtype", "digits"), [("float64", 53), ("float32", 24), ("bfloat16", 8), ("float16", 11)], ids=lambda a: str(a)
)
def test_unit(dtype, digits):
    """1 is followed by 1 + 2^(1 - digits); halfway is half an ulp."""
    step = Fraction(2) ** (1 - digits)
    assert error(1.0, 1, dtype) == 0
    assert error(1 + float(step), 1, dtype) == 1
    assert error(1.0, 1 + step / 2, dtype) == 0.5
    assert error(-2.0, -2 * (1 + 3 * step), dtype) == 3


def test_more_digits_than_float64():
    assert error(1.0, 1 + Fraction(2) ** -60, "float64") == 2.0**-8


@pytest.mark.parametrize(
    ("result", "truth", "wanted"),
    [
        (INF, Fraction(10) ** 400, 0),
        (-INF, Fraction(10) ** 400, INF),
        (MAX, Fraction(10) ** 400, INF),  # clipped
        (INF, MAX, 1),
        (INF, 1, INF),
        (INF, INF, 0),
        (MAX, INF, INF),
        (0.0, Fraction(10) ** -400, 0),
        (0.0, TINY / 8, 0),
        (TINY / 8, TINY / 8, 0),
        (0.0, TINY * (1 + 2.0**-22), 0),
        (0.0, TINY * 1.01, 2.0**23 * float(np.float32(1.01))),
        (1e-30, Fraction(10) ** -400, 1e-30 / TINY * 2.0**23),
        (0.0, 0, 0),
        (-0.0, 0, 0),
        (NAN, 1, INF),
        (NAN, NAN, 0),
        (1.0, NAN, INF),
        (NAN, INF, INF),
    ],
)
def test_ends_of_the_range(result, truth, wanted):
    assert error(result, truth) == pytest.approx(wanted, rel=0.01)


def test_scale():
    """Where terms of size 8 cancel to 0, 2^-20 is one ulp; a scale below the truth changes nothing."""
    assert error(2.0**-20, 0, scale=8.0) == 1
    assert error(1 + 2.0**-23, 1, scale=1e-3) == 1
