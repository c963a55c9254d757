"""The pages on migration, questions and scale: each row runs with the package it names, and each block of code runs."""

import ast
import doctest
import importlib
import re
import warnings
from collections.abc import Callable
from functools import cache
from math import inf, nan
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.special
import numpy as np
import pytest
from migration_truths import EXTREME, TRUTHS
from mpmath import mpf

import stablelogits_jax as sl
from stablelogits_jax.verify._oracle import derivatives
from stablelogits_jax.verify._specs import SPECS

DOCS = Path(__file__).parent.parent / "docs"
MIGRATION, FAQ, SCALE = ((DOCS / page).read_text() for page in ("migration.md", "faq.md", "scale.md"))
MODULES = {
    "tf": "tensorflow",
    "keras": "keras",
    "torch": "torch",
    "nn": "torch.nn",
    "F": "torch.nn.functional",
    "D": "torch.distributions",
    "torchvision": "torchvision",
    "optax": "optax",
    "jax": "jax",
    "scipy": "scipy",
    "sklearn": "sklearn",
}
OURS = {"sl": sl, "jnp": jnp}
RECENT = ("jax.nn.log1mexp", "jax.nn.logmeanexp", "scipy.special.softplus")  # not in each version that we work with
EVIDENCE = re.compile(r"(At|Slope at|Curvature at) `([^`]+)`: `([^`]+)`, here `([^`]+)`\.")


class Row(NamedTuple):
    """One call of another package, ours, and in words, with evidence, how they differ."""

    theirs: str
    ours: str
    differs: str

    def __str__(self) -> str:
        return self.theirs


def rows(page: str) -> list[Row]:
    lines = (re.fullmatch(r"\| `([^`]+)` \| `([^`]+)` \|(?: (.+))? \|", line) for line in page.splitlines())
    return [Row(line[1], line[2], line[3] or "") for line in lines if line]


ROWS = rows(MIGRATION)
EXAMPLES = [(row, *evidence) for row in ROWS for evidence in EVIDENCE.findall(row.differs)]
each_row = pytest.mark.parametrize("row", ROWS, ids=str)


@cache
def variables() -> dict[str, Any]:
    """What the page's first block of code defines: arrays, and Python numbers."""
    names: dict[str, Any] = {}
    exec(blocks(MIGRATION)[0], names)
    return {name: a for name, a in names.items() if isinstance(a, (jax.Array, float))}


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def names_in(call: str) -> list[str]:
    """The names of a call, each once, in order of appearance."""
    nodes = (node for node in ast.walk(ast.parse(call, mode="eval")) if isinstance(node, ast.Name))
    return list(dict.fromkeys(node.id for node in sorted(nodes, key=lambda node: node.col_offset)))


def packages(call: str) -> dict[str, Any]:
    return {name: pytest.importorskip(MODULES[name]) for name in names_in(call) if name in MODULES}


def root(call: str) -> str:
    return next(MODULES[name].partition(".")[0] for name in names_in(call) if name in MODULES)


def arrays(package: str, values: dict[str, Any]) -> dict[str, Any]:
    """The variables as arrays of a package: JAX's for our calls and those of JAX and optax."""
    if package in ("scipy", "sklearn"):
        return {name: np.asarray(a) if isinstance(a, jax.Array) else a for name, a in values.items()}
    if package in ("tensorflow", "keras"):
        tf = importlib.import_module("tensorflow")
        return {name: tf.constant(np.asarray(a)) if isinstance(a, jax.Array) else a for name, a in values.items()}
    if package in ("torch", "torchvision"):  # by way of lists: not each build of PyTorch knows each NumPy
        torch = importlib.import_module("torch")
        kinds = {"f": torch.float32, "i": torch.int64, "b": torch.bool}
        return {
            name: torch.tensor(a.tolist(), dtype=kinds[a.dtype.kind]) if isinstance(a, jax.Array) else a
            for name, a in values.items()
        }
    return values


def differentiated(package: str, f: Any) -> Any:
    """The slope of the sum of f's results, in the package's own way."""
    if package in ("tensorflow", "keras"):
        tf = importlib.import_module("tensorflow")

        def slope(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                total = tf.reduce_sum(f(x))
            return tape.gradient(total, x)
    elif package in ("torch", "torchvision"):
        torch = importlib.import_module("torch")

        def slope(x):
            return torch.autograd.grad(f(x.requires_grad_()).sum(), x, create_graph=True)[0]
    else:
        slope = jax.grad(lambda x: f(x).sum())
    return slope


def result(call: str, values: dict[str, Any], order: int = 0, variable: str = "") -> np.ndarray:
    """What a call returns, or its slope or curvature in a variable."""
    package, names = ("jax", OURS) if "sl" in names_in(call) else (root(call), packages(call))
    module, _, function = call.partition("(")[0].rpartition(".")
    if call.startswith(RECENT) and not hasattr(importlib.import_module(module), function):
        pytest.skip(f"this version of {module} has no such function")

    def f(x):
        return eval(call, names | {variable: x})

    for _ in range(order):
        f = differentiated(package, f)
    with warnings.catch_warnings(action="ignore"):  # theirs, about what they are shown to return
        names = names | arrays(package, values)
        got = f(names.get(variable))
    return np.asarray(got.detach().tolist() if hasattr(got, "detach") else got)


def shown(*args: Any) -> str:
    """A result as the pages show it: three digits of each number, or the name of the error."""
    try:
        got = result(*args)
    except Exception as error:
        return type(error).__name__
    numbers = np.asarray(got, np.float64) + 0.0
    text = np.array2string(numbers, separator=", ", formatter={"float_kind": lambda number: f"{number:.3g}"})
    return " ".join(text.split())


@pytest.fixture(autouse=True)
def promotion_as_users_have_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@each_row
def test_same_on_moderate_inputs(row):
    theirs = result(row.theirs, variables())
    assert np.all(np.isfinite(theirs))
    np.testing.assert_allclose(result(row.ours, variables()), theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the pages say what is returned on a CPU")
@pytest.mark.parametrize(("row", "order", "at", "theirs", "ours"), EXAMPLES, ids=lambda a: str(a)[:60])
def test_differs_as_said(row, order, at, theirs, ours):
    assert theirs != ours
    given = eval(f"dict({at})", {"inf": inf, "nan": nan})
    values = variables() | {name: jnp.asarray(a) if isinstance(a, list) else a for name, a in given.items()}
    where = ("At", "Slope at", "Curvature at").index(order), next(iter(given))
    assert shown(row.ours, values, *where) == ours
    assert shown(row.theirs, values, *where) == theirs


@each_row
def test_what_is_said_to_differ_is_shown(row):
    assert bool(row.differs) == bool(EVIDENCE.search(row.differs)), row.differs
    assert row.differs.count(", here ") == len(EVIDENCE.findall(row.differs))


@pytest.mark.parametrize("ours", sorted({row.ours for row in ROWS}))
def test_ours_is_right_on_extreme_inputs(ours):
    """Value and slope, in the first variable, against the textbook formula."""
    call = ours.removesuffix(".mean()")
    formula = TRUTHS.get(call) or plain(call)
    columns = [name for name in names_in(call) if name in EXTREME]
    args = [exact(np.asarray(EXTREME[name]).tolist()) for name in columns]
    exponents = jnp.finfo(jnp.float32).nmant - jnp.finfo(jnp.float32).minexp
    truth = derivatives(formula if call == ours else averaged(formula), args, (0,), 1, exponents)
    names = OURS | variables() | {name: jnp.asarray(a) for name, a in EXTREME.items()}

    def f(x):
        return eval(ours, names | {columns[0]: x})

    x = names[columns[0]]
    for got, wanted in zip((f(x), jax.jacrev(f)(x)), truth, strict=True):
        wanted = wanted.astype(np.float64)
        np.testing.assert_allclose(np.reshape(got, wanted.shape), wanted, rtol=2e-6, atol=1e-37)


def exact(a: Any) -> Any:
    """Floats as numbers of the oracle; what names a class stays an integer."""
    if isinstance(a, list):
        return [exact(each) for each in a]
    return mpf(a) if isinstance(a, float) else a


def averaged(formula: Callable) -> Callable:
    return lambda *columns: sum(formula(*columns)) / len(formula(*columns))


def plain(call: str) -> Any:
    """The formula of the table's row for a call without options, for each example."""
    name = re.fullmatch(r"sl\.(\w+)\(\w+(?:, \w+)*(?:, (?:axis=)?-1)?\)", call)
    assert name, f"tests/migration_truths.py has no formula for {call}"
    formula = next(spec.formula for spec in SPECS if spec.name == name[1] and not spec.options)
    return lambda *columns: flat(formula(*example) for example in zip(*columns, strict=True))


def flat(results: Any) -> list:
    return [a for result in results for a in (result if isinstance(result, list) else [result])]


def test_no_row_is_lost():
    """Each line of a table is a row, its headings aside, and no call is in the tables twice."""
    lines = [line for line in MIGRATION.splitlines() if line.startswith("| `")]
    assert len(lines) == len(ROWS) == len({row.theirs for row in ROWS}) > 80


@pytest.mark.parametrize("page", [MIGRATION, FAQ, SCALE], ids=["migration", "faq", "scale"])
def test_code_runs(page):
    assert set(re.findall(r"^```(\w+)$", page, re.MULTILINE)) <= {"python", "pycon"}
    names: dict[str, Any] = {}
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        if language == "python":
            exec(code, names)
        else:
            test = doctest.DocTestParser().get_doctest(code, names, "page", None, None)
            assert test.examples
            runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
            assert runner.run(test, clear_globs=False).failed == 0
            names |= test.globs
