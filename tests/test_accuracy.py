"""Value, slope and curvature of every function, in every float type, by every way of running it."""

import pytest
from checks import PLAIN, WAYS, check_accuracy, each

from stablelogits_jax.verify._specs import SPECS


@each(SPECS)
def test_compiled(spec, dtype):
    check_accuracy(spec.ours(), spec, dtype)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "jit"])
@each(PLAIN)
def test_transformed(spec, dtype, way):
    check_accuracy(WAYS[way](spec.ours()), spec, dtype)


@each(PLAIN)
def test_eager(spec, dtype):
    check_accuracy(spec.ours(), spec, dtype, run=lambda f: f)
