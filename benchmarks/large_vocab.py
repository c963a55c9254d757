"""Time and memory of the losses on hidden @ kernel beside optax on all logits, and beside the products alone.

Value and gradient, by hidden and kernel, of a weighted sum of the losses; compiled by `jax.jit` and run in turn in one
process, on one core; times are medians of the processor's time, and memory is what XLA's `memory_analysis()` says that
a program takes beside its arguments and results.

Run `python benchmarks/large_vocab.py`. It takes minutes, writes large_vocab.md, and fails if a figure is above its
bound.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.progress import track
from rich.table import Table
from run import conditions, seconds

import stablelogits_jax as sl

RESULTS = Path(__file__).with_suffix(".md")
RUNS = 5
MIB = 2**20
PLAIN, PRODUCTS, TOKENS, SUM = "optax on hidden @ kernel", "three products", "per token", "sum"


class Case(NamedTuple):
    tokens: int
    features: int
    classes: int
    dtype: str
    bounds: dict[str, tuple[float, float]]  # of time and temporary memory beside the plain loss's
    beside_products: float | None = None  # of the sum's time beside that of the products


CASES = (
    Case(2048, 512, 32768, "float32", {TOKENS: (1.15, 0.05), SUM: (0.95, 0.25)}),
    Case(4096, 512, 131072, "float32", {TOKENS: (0.95, 0.02), SUM: (0.85, 0.13)}, 1.15),
    Case(4096, 512, 131072, "bfloat16", {TOKENS: (1.0, 0.065), SUM: (0.83, 0.19)}),
)
COLUMNS = ["tokens × features × classes", "type", "form", "s", "of plain", "of products", "temporary, MiB", "of plain"]


def plain(hidden: jax.Array, kernel: jax.Array, labels: jax.Array, w: jax.Array) -> jax.Array:
    losses = optax.softmax_cross_entropy_with_integer_labels(hidden @ kernel, labels)
    return jnp.sum(losses.astype(jnp.float32) * w)


def per_token(hidden: jax.Array, kernel: jax.Array, labels: jax.Array, w: jax.Array) -> jax.Array:
    return jnp.sum(sl.linear_softmax_cross_entropy(hidden, kernel, labels) * w)


def summed(hidden: jax.Array, kernel: jax.Array, labels: jax.Array, w: jax.Array) -> jax.Array:
    return sl.linear_softmax_cross_entropy_sum(hidden, kernel, labels, w)


def products(hidden: jax.Array, kernel: jax.Array, labels: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What no loss and its gradient can do without: logits, and as much again for either gradient."""
    z = hidden @ kernel
    return z @ kernel.T, hidden.T @ z


def forms() -> dict[str, Callable]:
    losses = {PLAIN: plain, TOKENS: per_token, SUM: summed}
    return {name: jax.value_and_grad(f, (0, 1)) for name, f in losses.items()} | {PRODUCTS: products}


def measured(case: Case, runs: int) -> dict[str, tuple[float, float]]:
    """The seconds and the temporary bytes of each form."""
    rng = np.random.default_rng(0)
    t, d, v = case[:3]
    hidden = jnp.asarray(2 * rng.standard_normal((t, d), np.float32) / np.sqrt(d), case.dtype)
    kernel = jnp.asarray(rng.standard_normal((d, v), np.float32), case.dtype)
    arguments = [hidden, kernel, jnp.asarray(rng.integers(v, size=t)), jnp.asarray(rng.random(t, np.float32))]
    compiled = {name: jax.jit(f).lower(*arguments).compile() for name, f in forms().items()}
    times = [{name: seconds(f, arguments, 1) for name, f in compiled.items()} for _ in range(runs)]
    memory = {name: getattr(f.memory_analysis(), "temp_size_in_bytes", 0) for name, f in compiled.items()}
    return {name: (median(run[name] for run in times), memory[name]) for name in compiled}


def rows(case: Case, found: dict[str, tuple[float, float]]) -> tuple[list[list[str]], list[str]]:
    """The lines of the table, and what is above its bound."""
    lines, above = [], []
    for name, (time, memory) in found.items():
        ratios = {
            "time of plain": (time / found[PLAIN][0], case.bounds.get(name, (None, None))[0]),
            "time of products": (time / found[PRODUCTS][0], case.beside_products if name == SUM else None),
            "memory of plain": (memory / found[PLAIN][1], case.bounds.get(name, (None, None))[1]),
        }
        cells = [
            f"{ratio:.3g}" + (f" (≤ {bound})" if bound else "") if name != PLAIN else "1"
            for ratio, bound in ratios.values()
        ]
        shape, four = " × ".join(map(str, case[:3])), 4 / 3 * found[PRODUCTS][0] / found[PLAIN][0]
        why = f": logits that are not kept are made twice, and four products alone take {four:.3g} of plain"
        above += [
            f"{shape}, {case.dtype}, {name}, {what}: {r:.3g} > {b}{why if name == TOKENS and 'time' in what else ''}"
            for what, (r, b) in ratios.items()
            if b and r > b
        ]
        if name == PLAIN:
            cells[1] = f"{ratios['time of products'][0]:.3g}"
        lines.append([shape, case.dtype, name, f"{time:.3g}", *cells[:2], f"{memory / MIB:.4g}", cells[2]])
    return lines, above


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest case, one run, nothing is written")
    quick = parser.parse_args().quick
    console = Console()
    cases = CASES[:1] if quick else CASES
    found = [(case, measured(case, 1 if quick else RUNS)) for case in track(cases, "Timing", console=console)]
    lines, above = [], []
    for case, figures in found:
        more, too_much = rows(case, figures)
        lines += more
        above += too_much

    table = Table(*COLUMNS)
    for line in lines:
        table.add_row(*line)
    console.print(table)
    console.print("\n".join(above) or "All within their bounds.", markup=False, highlight=False)
    if not quick:
        text = ["# Large vocabularies", "Generated by `python benchmarks/large_vocab.py`, do not edit."]
        text += [*conditions()[:2], (__doc__ or "").partition("\n\n")[2].partition("\n\n")[0].replace("\n", " ")]
        text += ["\n".join(f"| {' | '.join(cells)} |" for cells in [COLUMNS, ["---"] * len(COLUMNS), *lines])]
        text += ["## Above the bound", "\n".join(f"- {entry}" for entry in above) or "None."]
        RESULTS.write_text("\n\n".join(text) + "\n", encoding="utf-8")
    return int(bool(above) and not quick)


if __name__ == "__main__":
    sys.exit(main())
