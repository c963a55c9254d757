"""The committed figures: of the committed code, complete, within their gates, and what the documents show."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import AS_COMMITTED, AS_MEASURED, FIGURES, FOLDER, GATES, committed, ratchet, spec_of
from jax import grad, jvp, vmap

from stablelogits_jax.verify import _report
from stablelogits_jax.verify._measure import float64_where_needed
from stablelogits_jax.verify._metric import Exact, ulp_error
from stablelogits_jax.verify._oracle import derivatives
from stablelogits_jax.verify._points import COUNT, EXPONENTS, key, points
from stablelogits_jax.verify._sweep import DOMAINS, ORDERS, Tally, complete, orders

WORST = json.loads((FOLDER / "worst.json").read_text())
EACH = pytest.mark.parametrize("name", DOMAINS)


OF_THIS_CODE = pytest.mark.skipif(not AS_COMMITTED, reason="figures are of the code that one version of JAX compiles")


@pytest.mark.skipif(not AS_MEASURED, reason="other instruction sets round otherwise")
def test_the_ratchet_is_asked():
    assert ratchet(1) < 1.2


@OF_THIS_CODE
@EACH
def test_the_figures_are_of_this_code(name):
    """After a change of the function: --exhaustive, then --write."""
    assert complete(name, FOLDER / "sweeps") == committed(name, "float32"), "the float32 code has changed"
    of_points = json.loads((FOLDER / "points" / f"{name}.json").read_text())
    assert of_points["code"] == key(name), "the float64 code or the numbers have changed"
    assert [Tally(*tally) for tally in of_points["ours"]] == committed(name, "float64")


@EACH
@pytest.mark.parametrize("dtype", GATES)
def test_gates(name, dtype):
    for order, tally, gate in zip(ORDERS, committed(name, dtype), GATES[dtype], strict=True):
        assert tally.broken == 0, f"{order}: {tally}"
        assert tally.worst <= gate, f"{order}: {tally}"


@EACH
def test_the_published_numbers(name):
    """Of the function's domain, the same each time."""
    x = points(name)
    low, high = DOMAINS[name]
    assert x.size == COUNT == committed(name, "float64")[0].measured
    assert np.all((x > low) & (x < high))
    np.testing.assert_array_equal(x, points(name))


def test_the_documents_show_the_figures():
    assert (FOLDER.parent / "ACCURACY.md").read_text(encoding="utf-8") == _report.report(FIGURES)
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert readme == _report.with_headline(readme, FIGURES)


# Every worst input, again and again -------------------------------------------------------------------------------


def forward(f, x):
    return orders(f, x)


def reverse(f, x):
    return vmap(f)(x), vmap(grad(f))(x), vmap(grad(grad(f)))(x)


def forward_over_reverse(f, x):
    slope = vmap(grad(f))
    return f(x), slope(x), jvp(slope, (x,), (jnp.ones_like(x),))[1]


DERIVATIVES = {"forward": forward, "reverse": reverse, "forward over reverse": forward_over_reverse}
WAYS = {
    "jit": jax.jit,
    "eager": lambda f: f,
    "vmap": lambda f: jax.jit(vmap(lambda x: jax.tree.map(lambda y: y[0], f(x[None])))),
    "scan": lambda f: jax.jit(partial(jax.lax.map, lambda x: jax.tree.map(lambda y: y[0], f(x[None])))),
}
MODES = {(mode, way): (g, run) for mode, g in DERIVATIVES.items() for way, run in WAYS.items()}


@EACH
@pytest.mark.parametrize("dtype", GATES)
def test_worst_inputs(name, dtype):
    """In every mode of differentiation; those of the wide types in every way of running it."""
    spec = spec_of(name)
    x = np.array([at for n, t, at in WORST if (n, t) == (name, dtype)])
    truths = [derivatives(spec.formula, [float(a)], (0,), 2, EXPONENTS) for a in x]
    exact = [Exact.of(np.array([truth[order].flat[0] for truth in truths])) for order in range(len(ORDERS))]
    with float64_where_needed(dtype):
        numbers = jnp.asarray(x, dtype)
        assert numbers.size
        assert np.array_equal(np.asarray(numbers, np.float64), x)
        for mode, (g, run) in MODES.items():
            if dtype in ("float64", "float32") or "jit" in mode:
                results = run(partial(g, spec.ours()))(numbers)
                for order, result, truth, gate in zip(ORDERS, results, exact, GATES[dtype], strict=True):
                    errors = ulp_error(np.asarray(result), truth)
                    assert np.all(errors <= gate), f"{mode}, {order}: {errors} at {x}"
