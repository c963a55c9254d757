"""The committed figures: of the committed code, complete, within their gates, and what the documents show."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import FIGURES, FOLDER, GATES, committed, spec_of
from jax import grad, jvp, vmap

from stablelogits_jax.verify import _report
from stablelogits_jax.verify._measure import float64_where_needed
from stablelogits_jax.verify._metric import Exact, ulp_error
from stablelogits_jax.verify._oracle import derivatives
from stablelogits_jax.verify._points import COUNT, EXPONENTS, points
from stablelogits_jax.verify._sweep import DOMAINS, ORDERS, Tally, code, complete, orders

WORST = json.loads((FOLDER / "worst.json").read_text())
EACH = pytest.mark.parametrize("name", DOMAINS)


@pytest.mark.skipif(jax.__version__ != FIGURES["conditions"]["jax"], reason="other versions compile other code")
@EACH
def test_the_figures_are_of_this_code(name):
    """After a change of the function: --exhaustive, then --write."""
    assert complete(name, FOLDER / "sweeps") == committed(name, "float32"), "the float32 code has changed"
    of_points = json.loads((FOLDER / "points" / f"{name}.json").read_text())
    assert of_points["code"] == code(name, "float64"), "the float64 code has changed"
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


def in_scan(f, x):
    return jax.lax.map(partial(forward, f), x)


MODES = {
    "forward, jit": lambda f: jax.jit(partial(forward, f)),
    "forward, eager": lambda f: partial(forward, f),
    "forward, vmap": lambda f: jax.jit(vmap(partial(forward, f))),
    "forward, scan": lambda f: jax.jit(partial(in_scan, f)),
    "reverse over reverse, jit": lambda f: jax.jit(partial(reverse, f)),
    "forward over reverse, jit": lambda f: jax.jit(partial(forward_over_reverse, f)),
}


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
        for mode, of in MODES.items():
            if dtype in ("float64", "float32") or mode.endswith("jit"):
                for order, result, truth, gate in zip(
                    ORDERS, of(spec.ours())(numbers), exact, GATES[dtype], strict=True
                ):
                    errors = ulp_error(np.asarray(result), truth)
                    assert np.all(errors <= gate), f"{mode}, {order}: {errors} at {x}"
