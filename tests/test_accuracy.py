"""Value, slope and curvature of every function: compiled in every float type, by other ways of running it in one."""

import pytest
from checks import AS_COMMITTED, FIGURES, PLAIN, WAYS, check_accuracy, check_findings, each, ratchet

from stablelogits_jax.verify._figures import worst
from stablelogits_jax.verify._measure import Noted, measure
from stablelogits_jax.verify._specs import SPECS


@each(SPECS)
def test_compiled(spec, dtype):
    """Within the budget, and no worse than committed figures, which are of this code: after a change, --write."""
    noted = Noted()
    findings = measure(spec.ours(), spec, dtype, noted)
    check_findings(findings, spec)
    for order, (ulps, _) in worst(findings).items():
        before = FIGURES["grid"][str(spec)][dtype.name][order][0]
        assert ulps <= ratchet(before), f"{order}: {ulps} ulps, {before} committed"
    if AS_COMMITTED:
        assert FIGURES["grid"][str(spec)][dtype.name]["code"] == noted.code, "the code has changed"


@pytest.mark.parametrize(
    ("way", "dtype"),
    [("vmap", "bfloat16"), ("remat in scan", "float32")],
    indirect=["dtype"],
)
@each(PLAIN)
def test_transformed(spec, dtype, way):
    check_accuracy(WAYS[way](spec.ours()), spec, dtype)


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
@each(PLAIN)
def test_eager(spec, dtype):
    check_accuracy(spec.ours(), spec, dtype, run=lambda f: f)
