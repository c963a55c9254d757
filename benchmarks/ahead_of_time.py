"""Compiles for machines that are not here: does every function compile for TPUs and an H100, what memory does it take,
and what do devices tell one another where a vocabulary is split between them? Nothing is run.

Run `pip install -e ".[ahead-of-time]"`, which brings the compilers, and `python benchmarks/ahead_of_time.py`: half an
hour on two cores. `--part` compiles one part alone. It writes ahead_of_time.json, and from that ahead_of_time.md;
`--machine` and `--only` try a few programs and write nothing. It fails if a program does not compile.
"""

import argparse
import json
import platform
import sys
from collections.abc import Iterator
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from compiled import Collective
from machines import MACHINES, PUBLISHED
from programs import CLASSES, FEATURES, NUMBERS, ROWS, SHARE, TOKENS, VOCABULARY, functions, head, meshes
from rich.console import Console
from rich.progress import track
from rich.table import Table

DATA = Path(__file__).with_suffix(".json")
REPORT = Path(__file__).with_suffix(".md")
PACKAGES = ("jax", "jaxlib", "libtpu", "jax-cuda12-plugin", "jax-cuda12-pjrt", "optax")
PARTS = {"functions": functions, "head": head, "meshes": meshes}
TITLES = {
    "functions": "Every public function",
    "head": "Llama-3's head on one device",
    "meshes": "Llama-3's head on meshes",
}
MIB, TERA = 2**20, 1e12
MEASURES = {
    "temporary, MiB": ("temporary", MIB),
    "arguments, MiB": ("arguments", MIB),
    "results, MiB": ("outputs", MIB),
    "products, Tflop": ("matmul_flops", TERA),
    "compiled in, s": ("seconds", 1),
}
NOTES = {
    "functions": f"Value and gradient. Temporary memory in MiB beside that of the arguments, the cotangent among them, "
    f"and of the results. Functions of numbers take {NUMBERS:,} of them, those along an axis {ROWS} × {CLASSES}, "
    "contrastive losses 8192 × 1024 embeddings.",
    "head": f"Value and gradient of the mean loss, by hidden states and kernel; T = {TOKENS}, D = {FEATURES}, V = "
    f"{VOCABULARY}, bfloat16. One matrix product of all tokens is 2TDV = "
    f"{2 * TOKENS * FEATURES * VOCABULARY / TERA:.3g} Tflop.",
    "meshes": f"The same on each device: {SHARE} tokens times the data axis, the classes split over the model axis; "
    "the kernel's features whole on each device, or split over the data axis. Collectives: how many arrays, of how "
    "many devices, bytes of the results on one device. The last two columns are what products and collectives take "
    "at the published rates of the chip, "
    + "; ".join(f"{name} {f / TERA:.0f} Tflop/s, {w / 1e9:.0f} GB/s a port" for name, (f, _, w) in PUBLISHED.items())
    + "; a collective on a ring, over two ports each way.",
}
Row = dict[str, Any]


def cell(row: Row, key: str, unit: float = MIB) -> str:
    return "not compiled" if "error" in row else f"{row[key] / unit:.4g}"


def of_functions(rows: list[Row]) -> Iterator[list[str]]:
    machines = list(dict.fromkeys(row["machine"] for row in rows))
    yield ["function", "type", "arguments and results", *machines]
    for name, dtype in dict.fromkeys((row["function"], row["dtype"]) for row in rows):
        same = {row["machine"]: row for row in rows if (row["function"], row["dtype"]) == (name, dtype)}
        sizes = [row["arguments"] + row["outputs"] for row in same.values() if "error" not in row]
        size = f"{min(sizes) / MIB:.4g}" if sizes else "–"
        yield [name, dtype, size, *(cell(same[machine], "temporary") for machine in machines)]


def of_head(rows: list[Row]) -> Iterator[list[str]]:
    yield ["loss", "machine", *MEASURES]
    for row in rows:
        yield [row["loss"], row["machine"], *(cell(row, *measure) for measure in MEASURES.values())]


def of_meshes(rows: list[Row]) -> Iterator[list[str]]:
    names = ["loss", "topology", "data", "model", "features"]
    yield [*names, *MEASURES, "collectives", "products, ms", "collectives, ms"]
    for row in rows:
        flops, _, port = PUBLISHED[row["topology"].partition(":")[0]]
        found = [Collective(**c) for c in row.get("collectives", [])]
        at_peak = row.get("matmul_flops", 0) / flops, sum(c.at_peak(port) for c in found)
        figures = [*(cell(row, *measure) for measure in MEASURES.values()), "; ".join(map(spoken, found)) or "–"]
        yield [*(str(row[name]) for name in names), *figures, *(f"{seconds * 1e3:.3g}" for seconds in at_peak)]


def spoken(c: Collective) -> str:
    inside = " in a loop" if c.looped else ""
    return f"{c.arrays} {c.kind} of {c.devices}{inside}, {c.bytes / MIB:.4g} MiB"


TABLES = {"functions": of_functions, "head": of_head, "meshes": of_meshes}


def not_compiled(rows: list[Row]) -> list[str]:
    """What did not compile and why."""
    failed = [row for row in rows if "error" in row]
    return [f"{', '.join(str(v) for k, v in row.items() if k != 'error')}: {row['error']}" for row in failed]


def conditions() -> str:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"without {package}")
    return f"{', '.join(found)}, Python {platform.python_version()}, {date.today()}"


def markdown(data: dict[str, dict[str, Any]]) -> str:
    text = [
        "# Compiled for machines that are not here",
        "Generated by `python benchmarks/ahead_of_time.py`, do not edit.",
    ]
    for part in (part for part in PARTS if part in data):
        header, *lines = TABLES[part](data[part]["rows"])
        text += [f"## {TITLES[part]}", f"<!-- --8<-- [start:{part}] -->", data[part]["conditions"] + ".", NOTES[part]]
        text += ["\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *lines])]
        failed = not_compiled(data[part]["rows"])
        text += ["Not compiled:" if failed else "Everything compiles.", "\n".join(f"- {entry}" for entry in failed)]
        text += [f"<!-- --8<-- [end:{part}] -->"]
    return "\n\n".join(paragraph for paragraph in text if paragraph) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", choices=PARTS, help="this part alone")
    parser.add_argument("--machine", choices=MACHINES, help="this machine alone")
    parser.add_argument("--only", metavar="NAME", help="this function or loss alone")
    options = parser.parse_args()
    console = Console()

    data = json.loads(DATA.read_text()) if DATA.exists() else {}
    failed = []
    for part in [options.part] if options.part else PARTS:
        programs = PARTS[part]([options.machine] if options.machine else list(MACHINES))
        chosen = [p for p in programs if options.only in (None, p.name.get("function"), p.name.get("loss"))]
        rows = [program.run() for program in track(chosen, f"Compiling {part}", console=console, transient=True)]
        data[part] = {"conditions": conditions(), "rows": rows}
        failed += not_compiled(rows)
        header, *lines = TABLES[part](rows)
        shown = Table(*header, title=TITLES[part])
        for line in lines:
            shown.add_row(*(f"[red]{cell}[/red]" if cell == "not compiled" else cell for cell in line))
        console.print(shown)
        if not (options.machine or options.only):
            DATA.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
            REPORT.write_text(markdown(data), encoding="utf-8")
    console.print("\n".join([conditions(), f"Not compiled: {len(failed)}", *failed]), markup=False, highlight=False)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
