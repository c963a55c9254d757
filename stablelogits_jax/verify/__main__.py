"""`python -m stablelogits_jax.verify [name ...]`: the worst error of every public function, beside its peer's.

With --exhaustive, of the functions of one number over every float32 number; a sweep that is cut goes on where it was.
With --write, ACCURACY.md, the README's table and the data behind them, from complete sweeps; of all else what has
changed is measured anew.
"""

import argparse
import json
import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TimeElapsedColumn
from rich.table import Table

from stablelogits_jax.verify import _figures, _report
from stablelogits_jax.verify._measure import TYPES, Finding, measure
from stablelogits_jax.verify._spec import SINGLE, Spec
from stablelogits_jax.verify._specs import SPECS
from stablelogits_jax.verify._sweep import BLOCKS, DOMAINS, Tally, swept
from stablelogits_jax.verify._sweep import ORDERS as SWEPT_ORDERS

ORDERS = (("value", (0,)), ("slope", (1, 2)), ("curvature", (3,)))  # the slope is measured in both modes


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stablelogits_jax.verify", description=__doc__)
    parser.add_argument("names", nargs="*", help="public functions; all of them if none is named")
    parser.add_argument("--exhaustive", action="store_true", help="all 2^32 float32 numbers")
    parser.add_argument("--shard", type=int, nargs=2, default=(0, 1), metavar=("K", "N"), help="the K-th of N parts")
    parser.add_argument("--write", action="store_true", help="write ACCURACY.md and its data")
    parser.add_argument("--folder", type=Path, default=Path("accuracy"), help="where what was found is kept")
    options = parser.parse_args()
    names = options.names
    unknown = set(names) - (set(DOMAINS) if options.exhaustive else {spec.name for spec in SPECS})
    if unknown:
        parser.error(f"no such function: {', '.join(sorted(unknown))}")
    index, count = options.shard
    if not 0 <= index < count:
        parser.error(f"--shard K N wants 0 <= K < N, got {index} {count}")
    if options.write and (names or options.exhaustive):
        parser.error("--write measures every function: it goes with neither names nor --exhaustive")
    if options.exhaustive:
        return exhaustive(names or list(DOMAINS), options.folder / "sweeps", (index, count))
    if options.write:
        return write(options.folder)
    chosen = [spec for spec in SPECS if not names or spec.name in names]

    console = Console()
    console.print(
        "Worst errors in ulps of the result's type: 0.5 is correct rounding. NaN/Inf counts where the truth is finite."
    )
    over = 0
    with Progress(console=console) as progress:
        task = progress.add_task("measuring", total=len(chosen) * len(TYPES))
        for spec in chosen:
            table = _table(spec)
            for dtype in TYPES:
                over += _add_rows(table, spec, dtype)
                progress.advance(task)
            console.print(table)
    console.print(f"{over} figures over budget" if over else "Every figure is within its budget.")
    return int(over > 0)


def write(folder: Path) -> int:
    """The data in the folder, and beside it ACCURACY.md and the README's table."""
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn()) as progress:
        task = progress.add_task("measuring", total=_figures.steps())
        for step in _figures.write(folder):
            progress.update(task, advance=1, description=step)
    figures, readme = json.loads((folder / "figures.json").read_text()), folder.parent / "README.md"
    (folder.parent / "ACCURACY.md").write_text(_report.report(figures), encoding="utf-8")
    if readme.exists():
        readme.write_text(_report.with_headline(readme.read_text(encoding="utf-8"), figures), encoding="utf-8")
    return 0


def exhaustive(names: list[str], folder: Path, shard: tuple[int, int]) -> int:
    """Sweeps the functions one by one, each after its float64 form, which is the truth here, was held to mpmath;
    whether a result is further off than its budget, or broken."""
    console = Console()
    table = Table(title="Every float32 number", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("function", "order", "numbers", "ulp", "at", "over 1/2", "NaN/Inf"):
        table.add_column(heading, justify="left" if heading in ("function", "order") else "right")
    bad = False
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console) as progress:
        for name in names:
            spec = next(spec for spec in SPECS if spec.name == name)
            if any(finding.ulps > finding.budget for finding in measure(spec.ours(), spec, "float64")):
                raise SystemExit(f"{name}: the float64 form is over its budget on the grid; see verify {name}")
            task = progress.add_task(name, total=len(range(shard[0], BLOCKS, shard[1])))
            found: list[Tally] = []
            for done, tallies in swept(name, folder, shard):
                found = tallies
                progress.update(task, completed=done)
            for order, tally in zip(SWEPT_ORDERS, found, strict=True):
                bad |= tally.worst > SINGLE or tally.broken > 0
                share = f"{tally.over_half / max(tally.measured, 1):.3%}"
                cells = (f"{tally.measured:,}", f"{tally.worst:.4f}", f"{tally.at:.9g}", share, str(tally.broken))
                table.add_row(name, order, *cells)
    console.print(table)
    return int(bad)


def _table(spec: Spec) -> Table:
    peer = spec.peer if spec.peers() else None
    table = Table(
        title=escape(f"{spec}, beside {peer}" if peer else str(spec)),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("type", min_width=8, no_wrap=True)
    table.add_column("order", min_width=9, no_wrap=True)
    for heading in ("ulp", "budget", "over 1/2", "NaN/Inf", "peer", "its"):
        table.add_column(heading, justify="right", overflow="fold")
    table.add_column("worst at", overflow="fold")
    return table


def _add_rows(table: Table, spec: Spec, dtype: str) -> int:
    """Three rows; how many of them are over budget."""
    ours, over = measure(spec.ours(), spec, dtype), 0
    peer = spec.peers()
    theirs = None if peer is None else measure(peer, spec, dtype)
    for order, at in ORDERS:
        worst = _worst(ours, at)
        over += worst.ulps > worst.budget
        beside = ("", "") if theirs is None else _cells(_worst(theirs, at))
        ulps, broken = _cells(worst)
        share = f"{worst.over_half:.1%}"
        at = " ".join(_point(a) for a in worst.args)
        table.add_row(dtype, order, ulps, f"{worst.budget:g}", share, broken, *beside, at)
    return over


def _worst(findings: list[Finding], at: tuple[int, ...]) -> Finding:
    return max((findings[i] for i in at), key=lambda finding: finding.ulps)


def _cells(finding: Finding) -> tuple[str, str]:
    ulps = _report.ulps(finding.ulps)
    return ulps if finding.ulps <= finding.budget else f"[red]{ulps}[/]", str(finding.broken or "")


def _point(x: float | list) -> str:
    return f"[{' '.join(map(_point, x))}]" if isinstance(x, list) else f"{x:.9g}"


if __name__ == "__main__":
    sys.exit(main())
