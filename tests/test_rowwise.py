"""Rows as they come, number by number, beside closed forms in a wider type, and those beside mpmath."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import exp, fdot, fsum, inf, log, mpf, workdps

import stablelogits_jax as sl
from stablelogits_jax.verify._measure import TYPES
from stablelogits_jax.verify._rowwise import FAMILIES, FUNCTIONS, RESULTS, WIDE, Finding, measured, rows, truths

pytestmark = pytest.mark.skipif(np.finfo(WIDE).nmant < 63, reason="no type is wider than float64 here")
LOSSES = ("softmax_cross_entropy", "softmax_cross_entropy_with_integer_labels")


# The truths -------------------------------------------------------------------------------------------------------


def textbook(name: str, x: list, w: list, v: list, y: list, label: int) -> list[list]:
    """In the order of RESULTS by the rules of calculus, with digits for all that cancels."""
    n = range(len(x))
    total = fsum(exp(a) for a in x)
    p = [exp(a) / total for a in x]
    log_p = [a - log(total) for a in x]

    def softmax_slope(t: list) -> list:
        return [p[i] * (t[i] - fdot(p, t)) for i in n]

    if name == "logsumexp":
        return [[log(total)], p, [fdot(p, v)], softmax_slope(v)]
    if name == "softmax":
        p_dot = softmax_slope(v)
        curvature = [p_dot[i] * (w[i] - fdot(p, w)) - p[i] * fdot(p_dot, w) for i in n]
        return [p, softmax_slope(w), p_dot, curvature]
    if name == "log_softmax":
        slope = [w[i] - p[i] * fsum(w) for i in n]
        return [log_p, slope, [a - fdot(p, v) for a in v], [-a * fsum(w) for a in softmax_slope(v)]]
    if name.endswith("integer_labels"):
        y = [mpf(i == label) for i in n]
    slope = [p[i] * fsum(y) - y[i] for i in n]
    loss = -fsum(a * b for a, b in zip(y, log_p, strict=True) if a)
    return [[loss], slope, [fdot(slope, v)], [a * fsum(y) for a in softmax_slope(v)]]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n", [1, 2, 7, 20])
def test_truths_are_those_of_mpmath(family, n):
    """To 0.05 unit roundoffs of float64, of float64 logits."""
    of = rows(family, n, jnp.dtype("float64"), 6)
    closed = truths(of)
    for i in range(6):
        with workdps(400):  # for exp(-700) beside 1
            x, w, v, y = ([mpf(float(b)) if np.isfinite(b) else -inf for b in a[i]] for a in of[:4])
            for name in FUNCTIONS:
                exact = textbook(name, x, w, v, y, int(of.label[i]))
                for (truth, scale), wanted in zip(closed[name], exact, strict=True):
                    scale = np.broadcast_to(scale, truth.shape)[i]
                    for got, size, number in zip(truth[i], scale, wanted, strict=True):
                        if abs(number) == inf:
                            assert got == number
                        else:
                            head = float(got)
                            error = abs(number - head - float(got - head))
                            unit = 2.0**-53 * max(abs(number), mpf(float(size)))
                            assert error <= 0.05 * unit + mpf(10) ** -320, (name, i, got, number)


# The measure ------------------------------------------------------------------------------------------------------


def bound(result: str, order: int) -> float:
    return 1 if result in ("float16", "bfloat16") else (4, 8, 10)[order]


@cache
def found(name: str, dtype: str) -> dict[str, Finding]:
    return {finding.what: finding for finding in measured(name, dtype, (1, 3, 10, 31, 1000), 6)}


def check(finding: Finding) -> None:
    assert finding.broken == 0, finding
    assert finding.error <= bound(finding.result, RESULTS[finding.what]), finding


@pytest.mark.parametrize("what", RESULTS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_rows(name, dtype, what):
    check(found(name, dtype)[what])


@pytest.mark.parametrize(("name", "dtype"), [*((name, "float32") for name in FUNCTIONS), ("softmax", "bfloat16")])
def test_rows_of_a_vocabulary(name, dtype):
    for finding in measured(name, dtype, (131072,), 1):
        check(finding)


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("n", [31, 199, 1000, 4099])
def test_a_class_beside_equal_ones(n, count):
    """[0, c, c, ...], whose equal terms round alike, in arrays so small that XLA:CPU adds them one after another."""
    for c in -np.exp(np.random.default_rng(n).uniform(-4, 2.5, (4, count, 1))).astype(np.float32):
        x = np.where(np.arange(n) == 0, np.float32(0), c)
        t = np.full_like(x, 0.3)
        e = np.exp(c.astype(WIDE))
        total, share = 1 + (n - 1) * e, t[0, 0].astype(WIDE)
        loss = share * (n * np.log(total) - (n - 1) * c)
        with_tangent = jax.jit(lambda x, t: jax.jvp(lambda x: sl.logsumexp(x, -1), (x,), (t,))[1])
        for got, truth, most in (
            (jax.jit(sl.softmax)(x)[:, 1:2], e / total, 4),
            (jax.jit(sl.softmax_cross_entropy)(x, t)[:, None], loss, 4),
            (with_tangent(x, t)[:, None], np.broadcast_to(share, (count, 1)), 8),
        ):
            error = np.abs(np.asarray(got).astype(WIDE) - truth) / np.abs(truth) * 2**24
            assert np.max(error) <= most, (c.ravel(), error.ravel())


# Planted errors ---------------------------------------------------------------------------------------------------


@jax.custom_jvp
def with_one_minus_p(x):
    return jax.nn.softmax(x)


@with_one_minus_p.defjvp
def _with_one_minus_p_jvp(primals, tangents):
    """p (1 - p) t_i - p sum p t of the others."""
    p, t = with_one_minus_p(*primals), tangents[0]
    return p, p * ((1 - p) * t - (jnp.sum(p * t, -1, keepdims=True) - p * t))


@pytest.mark.parametrize(
    ("name", "planted", "what"),
    [
        ("softmax", jax.nn.softmax, "gradient"),
        ("softmax", with_one_minus_p, "directional derivative"),
        ("softmax", with_one_minus_p, "Hessian-vector product"),
        ("log_softmax", jax.nn.log_softmax, "value"),
        ("logsumexp", jax.nn.logsumexp, "Hessian-vector product"),
    ],
)
def test_planted_errors_are_seen(name, planted, what):
    seen = {finding.what: finding for finding in measured(name, "float32", (3,), 6, planted)}
    assert seen[what].error > 100
