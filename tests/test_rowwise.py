"""Rows as they come, number by number, beside closed forms in a wider type, and those beside mpmath."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import AS_COMMITTED, FIGURES, ratchet

import stablelogits_jax as sl
from stablelogits_jax.verify._measure import TYPES
from stablelogits_jax.verify._row_truths import WIDE, farthest
from stablelogits_jax.verify._rowwise import FAMILIES, FUNCTIONS, RESULTS, Finding, code, measured, rows

pytestmark = pytest.mark.skipif(np.finfo(WIDE).nmant < 63, reason="no type is wider than float64 here")


# The truths -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n", [1, 2, 7, 20])
def test_truths_are_those_of_mpmath(family, n):
    """To 0.05 unit roundoffs of float64, of float64 logits."""
    assert farthest(rows(family, n, jnp.dtype("float64"), 6)) <= 0.05


def test_a_truth_that_is_none_is_seen(monkeypatch):
    monkeypatch.setattr(
        "stablelogits_jax.verify._row_truths.truths", lambda of: {"softmax": [(of.x * np.nan, 0.0)] * 4}
    )
    assert farthest(rows("random", 3, jnp.dtype("float64"), 1)) == np.inf


# The measure ------------------------------------------------------------------------------------------------------


def bound(result: str, order: int) -> float:
    return 1 if result in ("float16", "bfloat16") else (4, 8, 10)[order]


def check(finding: Finding) -> None:
    assert finding.broken == 0, finding
    assert finding.error <= bound(finding.result, RESULTS[finding.what]), finding


@pytest.mark.parametrize("dtype", ("float32",) if AS_COMMITTED else TYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_rows(name, dtype):
    """Within the bounds, and no worse than the committed rows, of which these are some."""
    sizes = (1, 10, 199, 1000) if AS_COMMITTED else (31, 1000)
    (found,) = measured([(name, None)], dtype, sizes)
    for what, finding in found.items():
        check(finding)
        before = FIGURES["rows"][name][dtype]["ours"][what][0]
        assert finding.error <= ratchet(before), f"{finding}, {before} committed"


@pytest.mark.skipif(not AS_COMMITTED, reason="figures are of the code that one version of JAX compiles")
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_figures_are_of_this_code(name, dtype):
    """And within the bounds. After a change of the function: --write."""
    committed = FIGURES["rows"][name][dtype]
    assert committed["code"] == code(name, dtype)
    for what, (error, result, family, n, broken) in committed["ours"].items():
        check(Finding(what, error, result, family, n, broken))


@pytest.mark.parametrize(("dtype", "n"), [("float32", 131072), ("bfloat16", 50257)])
def test_rows_of_a_vocabulary(dtype, n):
    for found in measured([(name, None) for name in FUNCTIONS], dtype, (n,), 1):
        for finding in found.values():
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
    (seen,) = measured([(name, planted)], "float32", (3,), 6)
    assert seen[what].error > 100
