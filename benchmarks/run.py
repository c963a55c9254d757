"""How long each function takes beside its peer in jax.nn, jax.numpy, jax.scipy.special or optax, or, where they have
none, its plain formula.

Ours and the peer are compiled by `jax.jit` and run in turn in one process, on one core; what is compared is the median
of the processor's time, so that other work on the machine does not count. All data are arguments of the compiled
functions. Each function has a process of its own: whether the system brings the pages of an array anew depends on what
a process has allocated before. Element-wise functions without a peer are not timed.

Run `python benchmarks/run.py`. It writes results.md, and fails if a ratio is above its bound and reasons.py does not
say why, or holds only up to a lower one.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import NamedTuple

if sys.platform == "linux":  # XLA sizes its pool of threads by this when it is loaded
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import jax
import jax.numpy as jnp
import numpy as np
from cases import ALONG_ROWS, ELEMENTWISE, LENGTHS, PLAIN, ROWS, Function, draw
from reasons import GRADIENT, REASONS, VALUE
from rich.console import Console
from rich.progress import track
from rich.table import Table

import stablelogits_jax as sl
from stablelogits_jax.verify._figures import conditions as machine

RESULTS = Path(__file__).with_name("results.md")
DTYPES = ["float32", "bfloat16"]
RUN = 1e-3  # seconds that a run takes at least: a short call is repeated
BUDGET = 1.0  # seconds for one ratio, within these numbers of runs:
RUNS = (11, 101)
NO_REASON = "no reason given"
COLUMNS = ["function", "type", "shape", "logits", "ours, ms", "value", "ours, ms", "value and gradient"]


class Timing(NamedTuple):
    ours: float
    peer: float
    bound: float

    @property
    def ratio(self) -> float:
        return self.ours / self.peer


class Row(NamedTuple):
    function: str
    dtype: str
    shape: tuple[int, ...]
    logits: str
    timings: dict[str, Timing]

    def cells(self, emphasis: str) -> list[str]:
        """The row as text, a ratio above its bound between a pair of `emphasis`."""
        cells = [self.function, self.dtype, " × ".join(map(str, self.shape)), self.logits]
        for timing in self.timings.values():
            ratio = f"{timing.ratio:.2f}"
            cells += [f"{timing.ours * 1e3:.3g}", emphasis.format(ratio) if timing.ratio > timing.bound else ratio]
        return cells

    def above(self) -> Iterator[tuple[str, str]]:
        """Why each ratio above its bound is there, empty where no reason is given, and the ratio."""
        for measure, timing in self.timings.items():
            if timing.ratio > timing.bound:
                reasons = REASONS.get(self.function, [])
                holds = dict.fromkeys(r.text for r in reasons if r.holds(timing.ratio, measure, self.dtype, self.shape))
                case = ", ".join(cell for cell in self.cells("{}")[1:4] if cell)
                yield "; ".join(holds), f"{case}, {measure} {timing.ratio:.2f}"


def listed(rows: list[Row]) -> list[str]:
    """The ratios above their bounds, of one function and reason in one line."""
    cases: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for reason, case in row.above():
            cases.setdefault((row.function, reason or NO_REASON), []).append(case)
    return [f"{function}: {reason} ({'; '.join(of)})" for (function, reason), of in cases.items()]


def compiled(f: Callable[..., jax.Array], function: Function) -> dict[str, Callable]:
    """f and its value-and-gradient under `jit`, as functions of w and f's own arguments."""

    def weighted(w: jax.Array, *arguments: jax.Array) -> jax.Array:
        return jnp.sum(f(*arguments).astype(jnp.float32) * w)

    argnums = (1,) if function.loss else tuple(range(1, 1 + len(function.arguments)))
    return {VALUE: jax.jit(lambda w, *xs: f(*xs)), GRADIENT: jax.jit(jax.value_and_grad(weighted, argnums))}


def seconds(f: Callable, arguments: list[jax.Array], calls: int) -> float:
    """The processor's time for one call."""
    start = time.process_time()
    for _ in range(calls):
        jax.block_until_ready(f(*arguments))
    return (time.process_time() - start) / calls


def compare(ours: Callable, peer: Callable, arguments: list[jax.Array], quick: bool) -> tuple[float, float]:
    both = (ours, peer)
    for f in both:  # compile
        jax.block_until_ready(f(*arguments))
    call = sum(seconds(f, arguments, 1) for f in both) / 2
    calls = max(1, int(RUN / call))
    runs = 3 if quick else int(np.clip(BUDGET / (2 * calls * call), *RUNS))
    times = [[seconds(f, arguments, calls) for f in both] for _ in range(runs)]
    return median(t for t, _ in times), median(t for _, t in times)


def bounds(function: Function, dtype: str, along_rows: bool) -> dict[str, float]:
    """What each measure is to be below: element-wise float32 functions carry twice the digits."""
    if function.plain:
        return {VALUE: 1.3, GRADIENT: 1.3}
    if along_rows:
        return {VALUE: 1.3, GRADIENT: 1.1 if function.loss else 1.3}
    if dtype != "float32":
        return {VALUE: 1.2, GRADIENT: 1.1 if function.loss else 1.2}
    return {VALUE: 2.0, GRADIENT: 1.1 if function.loss else 2.0}


def benchmark(name: str, dtype: str, quick: bool) -> Iterator[Row]:
    along_rows = name in ALONG_ROWS
    function = (ALONG_ROWS if along_rows else ELEMENTWISE | PLAIN)[name]
    given = (function.options or {}) | ({"axis": -1} if along_rows else {})
    pair = [partial(f, **given) for f in (getattr(sl, name.split(",")[0]), function.peer)]
    ours, peer = (compiled(f, function) for f in pair)
    most = bounds(function, dtype, along_rows)
    for shape in (function.shapes or (ROWS if along_rows else LENGTHS))[: 1 if quick else None]:
        rng = np.random.default_rng(0)
        x, *others = (draw(kind, rng, shape, dtype) for kind in function.arguments)
        w = jnp.asarray(rng.standard_normal(jax.eval_shape(pair[0], x, *others).shape, np.float32))
        for logits in ["random", "confident"] if along_rows else [""]:
            arguments = [w, x.at[:, 3].add(30) if logits == "confident" else x, *others]
            times = {m: compare(ours[m], peer[m], arguments, quick) for m in most}
            yield Row(name, dtype, shape, logits, {m: Timing(*times[m], most[m]) for m in most})


def rows_of(case: tuple[str, str], quick: bool) -> list[Row]:
    return list(benchmark(*case, quick))


def conditions() -> list[str]:
    """What the figures depend on."""
    on = machine()
    versions = [f"{package} {on[package]}" for package in ("jax", "jaxlib", "optax")]
    pinned = "1 (pinned to one core)" if sys.platform == "linux" else "not pinned: the time is the sum over all"
    return [
        f"{', '.join(versions)}, Python {on['python']}, {on['date']}",
        f"CPU: {on['device']}, {on['vectors']}; threads: {pinned}",
        "Ratios are ours / peer, of medians of the processor's time, run in turn under `jit` in one process for each "
        "function and type. "
        f"Bounds: element by element 2 in float32, 1.2 in bfloat16; along rows 1.3; for a loss 1.1 in {GRADIENT}; 1.3 "
        "beside a plain formula (plain.py).",
        "For bfloat16 logits optax computes a loss in bfloat16; ours is computed and returned in float32.",
    ]


def main() -> int:
    functions = [*ELEMENTWISE, *ALONG_ROWS, *PLAIN]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest shapes, 3 runs: does it work at all?")
    parser.add_argument("--dtype", choices=DTYPES, help="this type alone")
    parser.add_argument("--only", choices=functions, metavar="NAME", help="this function alone")
    options = parser.parse_args()
    console = Console()

    dtypes = [options.dtype] if options.dtype else DTYPES
    cases = [(name, dtype) for name in ([options.only] if options.only else functions) for dtype in dtypes]
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as process:
        tables = process.map(partial(rows_of, quick=options.quick), cases)
        rows = [row for rows in track(tables, "Timing", len(cases), console=console, transient=True) for row in rows]
    above = listed(rows)

    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*row.cells("[red]{}[/red]"))
    console.print(table)
    summary = [*conditions(), "", "Above the bound:", *above]
    console.print("\n".join(summary), markup=False, highlight=False, soft_wrap=True)

    if not (options.quick or options.dtype or options.only):
        lines = [COLUMNS, ["---"] * len(COLUMNS), *(row.cells("**{}**") for row in rows)]
        text = ["# Benchmarks", "Generated by `python benchmarks/run.py`, do not edit.", *conditions()]
        text += ["\n".join(f"| {' | '.join(cells)} |" for cells in lines), "## Above the bound"]
        text += ["\n".join(f"- {entry}" for entry in above) or "None."]
        RESULTS.write_text("\n\n".join(text) + "\n", encoding="utf-8")
    return int(not options.quick and any(NO_REASON in entry for entry in above))


if __name__ == "__main__":
    sys.exit(main())
