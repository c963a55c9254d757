"""What was measured of the committed code, beside the peers, as data: the folder `accuracy/`.

sweeps/       every float32 number, in shards            --exhaustive
points/       float64 numbers chosen to find the worst   --write, as all that follows
figures.json  the 16-bit types, the grids of all functions, rows, and under what conditions
worst.json    each input that was ever the worst, for the tests to come back to
"""

import hashlib
import json
import platform
import re
from collections.abc import Iterator
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

from stablelogits_jax.verify import _rowwise
from stablelogits_jax.verify._measure import TYPES, code, measure
from stablelogits_jax.verify._points import measured
from stablelogits_jax.verify._spec import Spec
from stablelogits_jax.verify._specs import SPECS
from stablelogits_jax.verify._sweep import DOMAINS, ORDERS, Tally, complete, sample, sixteen_bits

SIXTEEN = ("bfloat16", "float16")
SHOWN = ("__main__", "_report")  # the files that only show what the others measure
SAMPLE = 255  # of a peer's float32 numbers each SAMPLE-th is measured: of an even one all last digits would be 0


def conditions() -> dict[str, str]:
    """What figures depend on, beside the code that is measured."""
    file = Path("/proc/cpuinfo")
    cpuinfo = file.read_text() if file.exists() else ""
    models = re.findall(r"model name\s*: (.*)", cpuinfo)
    device = jax.devices()[0]
    packages = ("jax", "jaxlib", "optax", "numpy", "mpmath")
    measure = b"".join(
        file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")) if file.stem not in SHOWN
    )
    return {package: _version(package) for package in packages} | {
        "python": platform.python_version(),
        "measure": hashlib.sha256(measure).hexdigest()[:16],
        "device": models[0] if device.platform == "cpu" and models else device.device_kind,
        "vectors": next((flag for flag in ("avx512f", "avx2") if flag in cpuinfo.split()), ""),
        "platform": device.platform,
        "date": str(date.today()),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def one_number(name: str, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of a function of one number the types, and our tallies and the peer's in each."""
    peer = next(spec for spec in SPECS if spec.name == name).peers()
    swept = complete(name, folder / "sweeps")
    if swept is None:
        raise SystemExit(f"{name}: no complete sweep of this code in {folder / 'sweeps'}; run --exhaustive first")
    *_, (_, ours, theirs) = measured(name, folder / "points")
    yield "float64", {"ours": ours, "peer": theirs}
    yield "float32", {"ours": swept, "peer": sample(name, SAMPLE, peer) if peer else []}
    for dtype in SIXTEEN:
        yield dtype, {"ours": sixteen_bits(name, dtype), "peer": sixteen_bits(name, dtype, peer) if peer else []}


def on_grid(spec: Spec, dtype: str, before: dict[str, Any]) -> dict[str, Any]:
    """Of each order the worst error in ulps and how many results are broken, ours and the peer's; and the code of
    ours."""
    digest = code(spec, dtype)
    if before.get("code") == digest:
        return before
    both = [worst(measure(f, spec, dtype)) for f in (spec.ours(), spec.peers()) if f]
    figures = {order: [entry for found in both for entry in found[order]] for order in ORDERS}
    return figures | {"code": digest}


def in_rows(dtype: str, before: dict[str, dict]) -> dict[str, dict]:
    """Of each function the worst of each result in any row, ours and the peer's."""
    codes = {name: _rowwise.code(name, dtype) for name in _rowwise.FUNCTIONS}
    rows = {name: found for name, found in before.items() if found["code"] == codes.get(name)}
    peers = {name: _rowwise.peer(name) for name in codes if name not in rows}
    both = [(name, None) for name in peers] + [(name, peer) for name, peer in peers.items() if peer]
    rows |= {name: {"ours": {}, "peer": {}, "code": codes[name]} for name in peers}
    for (name, peer), found in zip(both, _rowwise.measured(both, dtype), strict=True):
        rows[name]["peer" if peer else "ours"] = {
            what: [a.error, a.result, a.family, a.n, a.broken] for what, a in found.items()
        }
    return {name: rows[name] for name in codes}


def worst(findings: list) -> dict[str, list]:
    """Of each order the larger error; the slope is measured in both modes."""
    found: dict[str, list] = {}
    for finding in findings:
        order = finding.what.split(",")[0]
        ulps, broken = found.get(order, [0.0, 0])
        found[order] = [max(ulps, finding.ulps), max(broken, finding.broken)]
    return found


def write(folder: Path) -> Iterator[str]:
    """Measures what neither the sweeps hold nor an earlier run found of the same code under these conditions, and says
    what was done, step by step."""
    before = _before(folder / "figures.json")
    numbers: dict[str, dict] = {}
    for name in DOMAINS:
        numbers[name] = {}
        for dtype, found in one_number(name, folder):
            numbers[name][dtype] = found
            yield f"{name}, {dtype}"
    grid: dict[str, dict] = {}
    for spec in SPECS:
        grid[str(spec)] = {}
        for dtype in TYPES:
            grid[str(spec)][dtype] = on_grid(spec, dtype, before["grid"].get(str(spec), {}).get(dtype, {}))
            yield f"{spec}, {dtype}, on the grid"
    _rowwise.check_truths()
    rows: dict[str, dict] = {name: {} for name in _rowwise.FUNCTIONS}
    for dtype in TYPES:
        for name, found in in_rows(dtype, {name: types[dtype] for name, types in before["rows"].items()}).items():
            rows[name][dtype] = found
        yield f"rows, {dtype}"
    figures = {"conditions": conditions(), "one number": numbers, "grid": grid, "rows": rows}
    (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    _remember(folder / "worst.json", numbers)


def _before(file: Path) -> dict[str, dict]:
    """The figures of an earlier run under these conditions, whatever its day."""
    found = json.loads(file.read_text()) if file.exists() else {}
    same = found.get("conditions", {}) | {"date": ""} == conditions() | {"date": ""}
    return found if same else {"grid": {}, "rows": {}}


def steps() -> int:
    return (len(DOMAINS) + len(SPECS) + 1) * len(TYPES)


def _remember(file: Path, numbers: dict[str, dict]) -> None:
    """Adds the worst inputs to those of earlier runs."""
    inputs = {tuple(entry) for entry in (json.loads(file.read_text()) if file.exists() else [])}
    for name, types in numbers.items():
        for dtype, found in types.items():
            inputs |= {(name, dtype, Tally(*tally).at) for tally in found["ours"]}
    lines = ",\n".join(json.dumps(entry) for entry in sorted(inputs))
    file.write_text(f"[\n{lines}\n]\n")
