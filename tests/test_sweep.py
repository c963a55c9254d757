"""The functions of one number, over all 16-bit inputs and a stratified sample of the 2^32 of float32."""

from functools import reduce

import pytest

from stablelogits_jax.verify._specs import SPECS
from stablelogits_jax.verify._sweep import DOMAINS, Tally, merged, sample, sixteen_bits, sweep, swept

EACH = pytest.mark.parametrize("name", DOMAINS)


def check(tallies: list[Tally], gate: float) -> None:
    for order, tally in zip(("value", "slope", "curvature"), tallies, strict=True):
        assert tally.measured > 1000
        assert tally.broken == 0, f"{order}: {tally}"
        assert tally.worst <= gate, f"{order}: {tally}"


def test_functions_of_one_number_are_swept():
    assert {spec.name for spec in SPECS if spec.single is not None} == set(DOMAINS)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@EACH
def test_all_of_sixteen_bits(name, dtype):
    check(sixteen_bits(name, dtype), 0.501)


@EACH
def test_sample_of_float32(name):
    """2^24 numbers, of which some functions are defined on a part."""
    check(sample(name, 256), 0.6)


def test_a_sweep_that_was_cut_goes_on(tmp_path, monkeypatch):
    """In two shards, each cut after a block: the same numbers are measured as in one go."""
    monkeypatch.setattr("stablelogits_jax.verify._sweep.BLOCKS", 4)
    found = [tallies[0] for _, tallies in sweep("logit", range(4))]
    parts = []
    for shard in ((0, 2), (1, 2)):
        done, _ = next(swept("logit", tmp_path, shard, every=1))
        assert done == 1
        *_, (done, total) = swept("logit", tmp_path, shard, every=1)
        assert done == 2
        parts.append(total[0])
    assert merged(*parts) == reduce(merged, found)
    assert parts[0].measured > 1 << 20
