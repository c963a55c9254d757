"""The functions of one number, over all 16-bit inputs and a stratified sample of the 2^32 of float32, and no worse than
the committed figures."""

import json
import platform
import subprocess
import sys
from functools import reduce
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import GATES, PLAIN, committed, ratchet

import stablelogits_jax as sl
from stablelogits_jax._double_float import upper
from stablelogits_jax.verify._sweep import (
    DOMAINS,
    EVERYWHERE,
    NEGATIVE,
    ORDERS,
    POSITIVE,
    UNIT,
    Tally,
    complete,
    merged,
    orders,
    sample,
    sixteen_bits,
    sweep,
    swept,
)

EACH = pytest.mark.parametrize("name", DOMAINS)
# So that 2^23 normal results are measured, and odd, or the last digits of all numbers would be 0.
STRIDES = {EVERYWHERE: 255, POSITIVE: 63, NEGATIVE: 63, UNIT: 31}

OTHERWISE = 0.02  # ulps that instruction sets without fused multiply-adds round otherwise


def check(tallies: list[Tally], name: str, dtype: str, least: int) -> None:
    for order, tally, gate, before in zip(ORDERS, tallies, GATES[dtype], committed(name, dtype), strict=True):
        assert tally.measured >= least
        assert tally.broken == 0, f"{order}: {tally}"
        assert tally.worst <= min(gate, ratchet(before.worst, OTHERWISE)), f"{order}: {tally}, {before} committed"


def test_functions_of_one_number_are_swept():
    assert {spec.name for spec in PLAIN if spec.one_number} == set(DOMAINS)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@EACH
def test_all_of_sixteen_bits(name, dtype):
    check(sixteen_bits(name, dtype), name, dtype, 1000)


@EACH
def test_sample_of_float32(name):
    check(sample(name, STRIDES[DOMAINS[name]]), name, "float32", 1 << 23)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="instruction sets of x86")
@pytest.mark.parametrize("isa", ["SSE4_2", "AVX2"])
def test_older_instruction_sets(isa):
    """Without fused multiply-adds, and with shorter vectors."""
    code = (
        "import json; from stablelogits_jax.verify._sweep import DOMAINS, sample\n"
        "print(json.dumps({name: sample(name, 4095) for name in DOMAINS}))"
    )
    flags = {"XLA_FLAGS": f"--xla_cpu_max_isa={isa}", "JAX_PLATFORMS": "cpu", "PATH": ""}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=flags)
    for name, tallies in json.loads(run.stdout).items():
        check([Tally(*tally) for tally in tallies], name, "float32", 1 << 16)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="instruction sets of x86")
def test_worst_inputs_and_rows_on_an_older_instruction_set():
    root = Path(__file__).parent.parent
    tests = [
        "tests/test_figures.py::test_worst_inputs",
        "tests/test_rowwise.py::test_rows",
        "-k",
        "float32 or (test_worst_inputs and float64)",
        "-q",
    ]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests]
    flags = {"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2", "JAX_PLATFORMS": "cpu", "PATH": ""}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=flags, cwd=root)
    assert run.returncode == 0, run.stdout
    assert " passed" in run.stdout


def planted(wrong, asked):
    """softplus, and `wrong` where asked."""
    return lambda x: jnp.where(asked(x), wrong, sl.softplus(x))


@pytest.mark.parametrize(
    ("f", "broken"),
    [
        (sl.softplus, False),
        (planted(jnp.nan, lambda x: x == 1), True),
        (planted(jnp.inf, lambda x: x == 1), True),
        (planted(1.0, lambda x: x < -100), True),
    ],
)
def test_broken_results_are_counted(f, broken):
    assert (sixteen_bits("softplus", "bfloat16", f)[0].broken > 0) == broken


def test_finite_results_beyond_the_range_are_counted():
    clipped = jax.custom_jvp(sl.softplus_inverse)
    clipped.defjvp(lambda p, t: (sl.softplus_inverse(*p), jnp.minimum(1 / p[0], 60000.0) * t[0]))
    assert sixteen_bits("softplus_inverse", "float16", clipped)[1].broken > 0
    assert sixteen_bits("softplus_inverse", "float16")[1].broken == 0


def test_the_sample_sees_last_digits():
    """A logit of the upper 12 of a number's 24 bits."""
    assert sample("logit", 4095, lambda p: sl.logit(upper(p)))[0].worst > 100


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_sure_labels(label):
    """The binary cross entropy of a label 0 or 1 is softplus(x) or softplus(-x), to the bit, in value, slope and
    curvature: what is measured of softplus is measured of it."""
    bits = np.arange(0, 1 << 32, 1 << 15, dtype=np.uint64).astype(np.uint32)
    x = bits.view(np.float32)
    x = jnp.asarray(x[~np.isnan(x)])
    sign = 1 - 2 * label
    loss = jax.jit(lambda x: orders(lambda x: sl.sigmoid_binary_cross_entropy(x, jnp.full_like(x, label)), x))(x)
    same = jax.jit(lambda x: orders(lambda x: sl.softplus(sign * x), x))(x)
    for a, b in zip(loss, same, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_sweep_that_was_cut_goes_on(tmp_path, monkeypatch):
    """In two shards, each cut after a block: the same numbers are measured as in one go."""
    monkeypatch.setattr("stablelogits_jax.verify._sweep.BLOCKS", 4)
    found = [tallies[0] for _, tallies in sweep("logit", range(4))]
    parts = []
    for shard in ((0, 2), (1, 2)):
        done, _ = next(swept("logit", tmp_path, shard, every=1))
        assert done == 1
        assert complete("logit", tmp_path) is None
        *_, (done, tallies) = swept("logit", tmp_path, shard, every=1)
        assert done == 2
        parts.append(tallies[0])
    assert merged(*parts) == reduce(merged, found)
    next(swept("logit", tmp_path, (0, 1), every=1))  # the beginning of a sweep in one shard
    together = complete("logit", tmp_path)
    assert together
    assert together[0] == merged(*parts)
    assert parts[0].measured > 1 << 20
