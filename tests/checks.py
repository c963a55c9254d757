"""The checks, as functions of an implementation: what they say of ours, and whether they see a planted error."""

import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mpf

from stablelogits_jax.verify._figures import conditions
from stablelogits_jax.verify._measure import Finding, derivatives, measure
from stablelogits_jax.verify._metric import Exact, ulp_error
from stablelogits_jax.verify._spec import SINGLE, SIXTEEN_BITS, Spec
from stablelogits_jax.verify._specs import SPECS
from stablelogits_jax.verify._sweep import Tally

FOLDER = Path(__file__).parent.parent / "accuracy"
FIGURES = json.loads((FOLDER / "figures.json").read_text())
GATES = {"float64": (2, 4, 8), "float32": (SINGLE,) * 3} | dict.fromkeys(("bfloat16", "float16"), (SIXTEEN_BITS,) * 3)
PLAIN = tuple(spec for spec in SPECS if not spec.options)


def each(specs):
    """All tests of a function in one process of pytest-xdist, so that truths are computed once."""
    group = pytest.mark.xdist_group
    return pytest.mark.parametrize("spec", [pytest.param(spec, id=str(spec), marks=group(str(spec))) for spec in specs])


def spec_of(name: str, options: str = "") -> Spec:
    return next(spec for spec in SPECS if (spec.name, spec.options) == (name, options))


def committed(name: str, dtype: str) -> list[Tally]:
    """The committed figures of a function of one number."""
    return [Tally(*tally) for tally in FIGURES["one number"][name][dtype]["ours"]]


AS_COMMITTED = (
    all(version(package) == FIGURES["conditions"][package] for package in ("jax", "jaxlib"))
    and platform.machine() in ("x86_64", "AMD64")
    and jax.default_backend() == "cpu"
    and "xla_cpu_max_isa" not in os.environ.get("XLA_FLAGS", "")
)
AS_MEASURED = AS_COMMITTED and conditions()["vectors"] == FIGURES["conditions"]["vectors"]


def ratchet(figure: float, more: float | None = None) -> float:
    """How much worse than a committed figure one measured again may be: by `more`, or by 5 % and 0.05, as other
    machines add in other orders. Other versions, backends and instruction sets compile other code, and are held to the
    budget alone."""
    return figure + (0.05 * (1 + figure) if more is None else more) if AS_MEASURED else inf


def in_scan_of_remat(f: Callable) -> Callable:
    """Over the examples one by one, as over the layers of a network."""
    return lambda *args: jax.lax.map(lambda example: jax.checkpoint(f)(*example), args)


# From a function of a batch to the same function by way of a transformation.
WAYS: dict[str, Callable] = {"jit": jax.jit, "vmap": jax.vmap, "remat in scan": in_scan_of_remat}


def check_accuracy(f: Callable, spec: Spec, dtype: Any, run: Callable = jax.jit, order: int = 2) -> None:
    """Value, slope in both modes and curvature on the grid of a type are within the budget."""
    check_findings(measure(f, spec, dtype, run, order), spec)


def check_findings(findings: list[Finding], spec: Spec) -> None:
    for finding in findings:
        assert finding.ulps <= finding.budget, f"{spec}: {finding}"


def check_limits(f: Callable, spec: Spec, dtype: Any, run: Callable = jax.jit) -> None:
    """Value and slopes, in both modes, at the infinities, the edges of the domain and NaN."""
    columns = zip(*(limit.args for limit in spec.limits), strict=True)
    kinds = [a.dtype for a in spec.grid(dtype)]
    # As many examples as `check_accuracy` has, of which nothing is then compiled anew where all runs eagerly.
    many = max(len(spec.limits), len(spec.grid(dtype)[0]))
    columns = [np.array(column) for column in columns]
    columns = [np.resize(column, (many, *column.shape[1:])) for column in columns]
    args = [jnp.asarray(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    value, forward, reverse = (np.asarray(r) for r in run(lambda *a: derivatives(f, a, spec.wrt, 1))(*args))
    for i, limit in enumerate(spec.limits):
        assert_close(value[i], np.ravel(limit.value), spec.budget[0], f"{spec}{limit.args}")
        for mode, slope in (("forward", forward), ("reverse", reverse)):
            for got, wanted in zip(np.ravel(slope[i]), limit.slopes or (), strict=limit.slopes is not None):
                if wanted is not None:
                    assert_close(got, wanted, spec.budget[1], f"{spec}{limit.args}: slope in {mode} mode {slope[i]}")


def assert_close(got: Any, wanted: Any, ulps: float, what: str, scale: Any = 0.0) -> None:
    """Equal within some ulps of the type that came; NaN equals NaN, and an infinity nothing but itself."""
    got = np.asarray(got)
    numbers = [mpf(a) for a in np.broadcast_to(wanted, got.shape).ravel().tolist()]
    error = ulp_error(got, Exact.of(np.array(numbers, dtype=object).reshape(got.shape)), scale)
    assert np.all(error <= ulps), f"{what}: got {got}, wanted {wanted}, {np.max(error)} ulp apart"
