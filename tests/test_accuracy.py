"""Value, slope and curvature of every function, in every float type, by every way of running it."""

import pytest
from checks import PLAIN, WAYS, check_accuracy, each

from stablelogits_jax.verify._measure import TYPES
from stablelogits_jax.verify._specs import SPECS


@each(SPECS)
def test_compiled(spec, dtype):
    check_accuracy(spec.ours(), spec, dtype)


def alternating(specs, ways):
    """For each function and way two types: (float64, bfloat16) or (float32, float16), by turns.

    So every function is run in every type and in every way, every way in every type, at half the cost of all.
    """
    return [
        pytest.param(spec, kind, way, id=f"{spec}-{kind}-{way}", marks=pytest.mark.xdist_group(spec.name))
        for i, spec in enumerate(specs)
        for j, way in enumerate(ways)
        for kind in TYPES[(i + j) % 2 :: 2]
    ]


@pytest.mark.parametrize(("spec", "kind", "way"), alternating(PLAIN, [way for way in WAYS if way != "jit"]))
def test_transformed(spec, kind, way):
    check_accuracy(WAYS[way](spec.ours()), spec, kind)


@pytest.mark.parametrize(("spec", "kind", "way"), alternating(SPECS, ["eager"]))
def test_eager(spec, kind, way):
    check_accuracy(spec.ours(), spec, kind, run=lambda f: f, order=1)
