"""The command, the grids, and what is said where the extra is not installed."""

import json
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import each, spec_of

from stablelogits_jax._checks import compute_type
from stablelogits_jax.verify import __main__ as command
from stablelogits_jax.verify import _figures
from stablelogits_jax.verify._measure import code, flat_digest
from stablelogits_jax.verify._specs import SPECS


@each(SPECS)
def test_grids_are_full_finite_and_the_same_each_time(spec, dtype):
    grid = spec.grid(dtype)
    assert {len(a) for a in grid} == {len(spec.grid(jnp.dtype("float32"))[0])}
    for a, again in zip(grid, spec.grid(dtype), strict=True):
        np.testing.assert_array_equal(a, again)
        if jnp.issubdtype(a.dtype, jnp.floating):
            assert a.dtype == dtype
            size = np.abs(a.astype(np.float64))
            normal = (size == 0) | (size >= float(jnp.finfo(compute_type(dtype)).tiny))  # nothing is flushed
            assert np.all(normal), f"{spec}: {a[~normal]}"


def test_table(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["verify", "softplus"])
    assert command.main() == 0
    out = capsys.readouterr().out
    assert "softplus, beside jax.nn.softplus" in out
    for word in ("float64", "float32", "bfloat16", "float16", "value", "slope", "curvature", "within its budget"):
        assert word in out


def test_unknown_name(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["verify", "softminus"])
    with pytest.raises(SystemExit):
        command.main()
    assert "no such function: softminus" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["mpmath", "rich"])
def test_without_the_extra(missing):
    code = f"import sys; sys.modules[{missing!r}] = None; import stablelogits_jax; import stablelogits_jax.verify"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert f"stablelogits_jax.verify needs {missing}: pip install 'stablelogits_jax[verify]'" in run.stderr


def test_the_package_does_not_need_the_extra():
    code = "import sys; sys.modules.update(mpmath=None, rich=None); import stablelogits_jax as sl; sl.sigmoid(0.)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_digest_of_the_code_sees_numbers():
    """Those that a function is given, and those that it closes over."""
    spec = spec_of("sigmoid")
    other = replace(spec, grid=lambda dtype: (spec.grid(dtype)[0][::-1],))
    assert code(spec, "float32") != code(other, "float32")
    x = jnp.zeros(3)
    one, two = (flat_digest(jax.jit(lambda x, a=a: x + a).trace(x).jaxpr) for a in (np.arange(3.0), np.ones(3)))
    assert one != two


def test_figures_of_the_same_code_are_kept(tmp_path):
    """Of other code, on another machine, or measured otherwise, they are not."""
    spec, file = spec_of("sigmoid"), tmp_path / "figures.json"
    kept = {"value": [-1.0, 0], "code": code(spec, "float32")}
    assert _figures.on_grid(spec, "float32", kept) is kept
    anew = _figures.on_grid(spec, "float32", kept | {"code": "of other code"})
    assert anew["code"] == kept["code"]
    assert 0 < anew["value"][0] < 1
    nothing = {"grid": {}, "rows": {}}
    assert _figures._before(file) == nothing
    for change, is_kept in (({}, True), ({"date": "another"}, True), ({"measure": ""}, False), ({"device": ""}, False)):
        figures = {"conditions": _figures.conditions() | change, "grid": {"sigmoid": {"float32": kept}}, "rows": {}}
        file.write_text(json.dumps(figures))
        assert _figures._before(file) == (figures if is_kept else nothing)
