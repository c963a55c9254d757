"""Compiles for machines that are not here: does every function compile for TPUs and an H100, what memory does it take,
and what do devices tell one another where a vocabulary is split between them? Nothing is run.

Run `pip install -e ".[ahead-of-time]"`, which brings the compilers, and `python benchmarks/ahead_of_time.py`: about an
hour on two cores, and it goes on where it was if it is cut. `--part` compiles one part alone. A file for each part
comes into ahead_of_time/, and from them ahead_of_time.md; `--machine` and `--only` try a few programs and write
nothing. `--quick` asks the compilers for their least effort: a quarter of the time, and programs that take more memory.
It fails if a program does not compile.
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

import jax
from compiled import Collective
from machines import MACHINES, PUBLISHED
from programs import CLASSES, FEATURES, NUMBERS, ROWS, SHARE, TOKENS, VOCABULARY, Program, functions, head, meshes
from rich.console import Console
from rich.progress import track
from rich.table import Table

DATA = Path(__file__).with_suffix("")
REPORT = Path(__file__).with_suffix(".md")
PACKAGES = ("jax", "jaxlib", "libtpu", "jax-cuda12-plugin", "jax-cuda12-pjrt", "optax")
PARTS = {"functions": functions, "head": head, "meshes": meshes}
TITLES = {
    "functions": "Every public function",
    "head": "Llama-3's head on one device",
    "meshes": "Llama-3's head on meshes",
}
EFFORT = "jax_exec_time_optimization_effort"
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


def cell(row: Row | None, key: str, unit: float = MIB) -> str:
    if row is None:
        return "–"
    return "not compiled" if "error" in row else f"{round(row[key] / unit, 3):.4g}"


def of_functions(rows: list[Row]) -> Iterator[list[str]]:
    machines = list(dict.fromkeys(row["machine"] for row in rows))
    yield ["function", "type", "arguments and results", *machines]
    for name, dtype in dict.fromkeys((row["function"], row["dtype"]) for row in rows):
        same = {row["machine"]: row for row in rows if (row["function"], row["dtype"]) == (name, dtype)}
        sizes = [row["arguments"] + row["outputs"] for row in same.values() if "error" not in row]
        size = f"{min(sizes) / MIB:.4g}" if sizes else "–"
        yield [name, dtype, size, *(cell(same.get(machine), "temporary") for machine in machines)]


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
        exchange = "not compiled" if "error" in row else f"{sum(c.at_peak(port) for c in found) * 1e3:.3g}"
        figures = [*(cell(row, *measure) for measure in MEASURES.values()), "; ".join(map(spoken, found)) or "–"]
        yield [*(str(row[name]) for name in names), *figures, cell(row, "matmul_flops", flops / 1e3), exchange]


def spoken(c: Collective) -> str:
    inside = " in a loop" if c.looped else ""
    size = f"{c.bytes / MIB:.4g} MiB" if c.bytes > MIB / 100 else f"{c.bytes:,} B"
    return f"{c.arrays} {c.kind} of {c.devices}{inside}, {size}"


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
    effort = ["the compilers' least effort"] if getattr(jax.config, EFFORT) < 0 else []
    return ", ".join([*found, f"Python {platform.python_version()}", *effort, str(date.today())])


def read(part: str) -> tuple[str, list[Row]]:
    """The conditions and the rows that are kept of a part."""
    path = DATA / f"{part}.jsonl"
    under, *rows = path.read_text(encoding="utf-8").splitlines() if path.exists() else ['""']
    return json.loads(under), [json.loads(row) for row in rows]


def append(part: str, line: str | Row) -> None:
    with (DATA / f"{part}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def compile_part(part: str, programs: list[Program], console: Console) -> list[Row]:
    """Compiles what is not there yet, or, where all of it is, everything anew."""
    under, rows = read(part)
    same = under.rpartition(", ")[0] == conditions().rpartition(", ")[0]  # but for the day
    if not same or len(rows) >= len(programs):
        DATA.mkdir(exist_ok=True)
        (DATA / f"{part}.jsonl").unlink(missing_ok=True)
        append(part, conditions())
        rows = []
    for program in track(programs[len(rows) :], f"Compiling {part}", console=console, transient=True):
        rows.append(program.run())
        append(part, rows[-1])
    return rows


def markdown() -> str:
    text = ["# Compiled for absent machines", "Generated by `python benchmarks/ahead_of_time.py`, do not edit."]
    for part in PARTS:
        under, rows = read(part)
        if rows:
            header, *lines = TABLES[part](rows)
            table = [header, ["---"] * len(header), *lines]
            failed = "\n".join(f"- {entry}" for entry in not_compiled(rows))
            text += [f"## {TITLES[part]}", f"<!-- --8<-- [start:{part}] -->", f"{under}.", NOTES[part]]
            text += ["\n".join(f"| {' | '.join(line)} |" for line in table)]
            text += [f"Not compiled:\n\n{failed}" if failed else "Everything compiles."]
            text += [f"<!-- --8<-- [end:{part}] -->"]
    return "\n\n".join(text) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", choices=PARTS, help="this part alone")
    parser.add_argument("--machine", choices=MACHINES, help="this machine alone")
    parser.add_argument("--only", metavar="NAME", help="this function or loss alone")
    parser.add_argument("--quick", action="store_true", help="the compilers' least effort")
    options = parser.parse_args()
    jax.config.update(EFFORT, -1.0 if options.quick else 0.0)
    console = Console()

    failed = []
    for part in [options.part] if options.part else PARTS:
        programs = list(PARTS[part]([options.machine] if options.machine else list(MACHINES)))
        if options.machine or options.only:
            chosen = [p for p in programs if options.only in (None, p.name.get("function"), p.name.get("loss"))]
            rows = [p.run() for p in track(chosen, f"Compiling {part}", console=console, transient=True)]
        else:
            rows = compile_part(part, programs, console)
            REPORT.write_text(markdown(), encoding="utf-8")
        if rows:
            header, *lines = TABLES[part](rows)
            shown = Table(*header, title=TITLES[part])
            for line in lines:
                shown.add_row(*(f"[red]{cell}[/red]" if cell == "not compiled" else cell for cell in line))
            console.print(shown)
        failed += not_compiled(rows)
    console.print("\n".join([conditions(), f"Not compiled: {len(failed)}", *failed]), markup=False, highlight=False)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
