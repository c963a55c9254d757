"""Infinities, edges of the domain and NaN: value and slope of every function, in every float type."""

from checks import PLAIN, check_limits, each

from stablelogits_jax.verify._specs import SPECS

LIMITED = [spec for spec in SPECS if spec.limits]


@each(LIMITED)
def test_compiled(spec, dtype):
    check_limits(spec.ours(), spec, dtype)


@each([spec for spec in LIMITED if spec in PLAIN])
def test_eager(spec):
    check_limits(spec.ours(), spec, "float32", run=lambda f: f)
