"""Floor 0: constants to 90 digits, and power series made into polynomials."""

from decimal import Decimal
from typing import Any

LN_2 = Decimal("0.693147180559945309417232121458176568075500134360255254120680009493393621969694715605863327")
INV_E = Decimal("0.367879441171442321595523770161460867445811131031767834507836801697461495744899803357147274")


def economized(series: list[Decimal], degree: int, low: Any, high: Any) -> list[float]:
    """The power series less Chebyshev's polynomials on [low, high] times what takes its highest terms away, one by one:
    nearly the best polynomial of the degree (Lanczos, 1938)."""
    middle, half = (Decimal(low) + Decimal(high)) / 2, (Decimal(high) - Decimal(low)) / 2
    chebyshev = [[Decimal(1)], [-middle / half, 1 / half]]
    while len(chebyshev) < len(series):
        before, last = chebyshev[-2:]
        by_x = [Decimal(0), *last]  # T_{n+1}(t) = 2 t T_n(t) - T_{n-1}(t) of t = (x - middle) / half
        rest = zip(by_x, [*last, Decimal(0)], [*before, Decimal(0), Decimal(0)], strict=True)
        chebyshev.append([2 * (a - middle * b) / half - c for a, b, c in rest])
    c = series
    for t in reversed(chebyshev[degree + 1 : len(series)]):
        c = [a - c[-1] / t[-1] * b for a, b in zip(c, t, strict=True)][:-1]
    return [float(a) for a in c]


def log_cosh_series(terms: int) -> list[Decimal]:
    """Of log cosh(x) the coefficients of x^4, x^6, ..., by those of its slope t with t' = 1 - t^2."""
    t = [Decimal(1)]
    for k in range(1, terms):
        t.append(-sum((t[i] * t[k - 1 - i] for i in range(k)), Decimal(0)) / (2 * k + 1))
    return [c / (2 * k + 2) for k, c in enumerate(t)][1:]
