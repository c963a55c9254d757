"""Value, slope and curvature of every function: compiled in every float type, by other ways of running it in one."""

import pytest
from checks import AS_COMMITTED, FIGURES, PLAIN, WAYS, check_accuracy, check_findings, each, ratchet

from stablelogits_jax.verify._figures import worst
from stablelogits_jax.verify._measure import code, measure, result
from stablelogits_jax.verify._specs import SPECS
from stablelogits_jax.verify._sweep import ORDERS


@each(SPECS)
def test_compiled(spec, dtype):
    """Within the budget, and no worse than committed figures, which are of this code: after a change, --write. What the
    versions of the figures compile is measured again in float32 alone, as the code of the other types is the same."""
    before = FIGURES["grid"][str(spec)][dtype.name]
    if AS_COMMITTED:
        assert before["code"] == code(spec, dtype), "the code has changed"
        for n, order in enumerate(ORDERS):
            assert before[order][0] <= spec.allowed(n, result(spec, dtype)), f"{order}: {before[order]} committed"
    if not AS_COMMITTED or dtype.name == "float32":
        findings = measure(spec.ours(), spec, dtype)
        check_findings(findings, spec)
        for order, (ulps, _) in worst(findings).items():
            assert ulps <= ratchet(before[order][0]), f"{order}: {ulps} ulps, {before[order][0]} committed"


@pytest.mark.parametrize(
    ("way", "dtype"),
    [("vmap", "bfloat16"), ("remat in scan", "float32")],
    indirect=["dtype"],
)
@each(PLAIN)
def test_transformed(spec, dtype, way):
    check_accuracy(WAYS[way](spec.ours()), spec, dtype, order=1)


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
@each(PLAIN)
def test_eager(spec, dtype):
    check_accuracy(spec.ours(), spec, dtype, run=lambda f: f, order=1)
