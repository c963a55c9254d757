"""The names, the floors and the rows agree."""

import ast
import inspect
import types
from pathlib import Path

import pytest

import stablelogits_jax as sl
from stablelogits_jax.verify._specs import SPECS

PACKAGE = Path(sl.__file__).parent
PUBLIC = {name for name, value in vars(sl).items() if name[0] != "_" and not isinstance(value, types.ModuleType)}

# Imports run downward only: a file imports from floors below its own, and from its own only where it is listed first.
FLOORS = (
    ("_checks", "_series", "_double_float", "_exp_log", "_mesh"),
    (
        "_core",
        "_sigmoid_kernels",
        "_log_kernels",
        "_closed",
        "_univariate",
        "_bivariate",
        "_mixture",
        "_relative_entropy",
        "_surprisals",
        "_leads",
        "_elementary",
        "_pairwise",
    ),
    (
        "_row_exp",
        "_row_sums",
        "_stats",
        "_part_sums",
        "_rows",
        "_label",
        "_cross_entropy",
        "_signed",
        "_normalizers",
        "_masked_mean",
        "_row_divergence",
        "_row_surprisals",
        "_information",
    ),
    (
        "_binary",
        "_focal",
        "_examples",
        "_categorical",
        "_divergences",
        "_distillation",
        "_modulated",
        "_ordinal",
        "_contrastive",
        "_preference",
        "_referenced",
    ),
    ("_vocabulary_tiles", "_vocabulary", "_vocabulary_sum", "_vocabulary_layout", "_large_vocab"),
)
HEIGHT = {file: (floor, place) for floor, files in enumerate(FLOORS) for place, file in enumerate(files)}


def imports(path):
    """The modules of the package that a file imports, by their path within it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            assert node.level == 0, f"{path.name}: relative import"
            if module == "stablelogits_jax":
                yield from (alias.name for alias in node.names)
            elif module.startswith("stablelogits_jax."):
                yield module.removeprefix("stablelogits_jax.")
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("stablelogits_jax.") for a in node.names if "stablelogits_jax." in a.name)


def test_every_public_name_has_a_row_and_every_row_a_name():
    assert set(sl.__all__) == PUBLIC
    assert {spec.name for spec in SPECS} == PUBLIC


def test_no_row_twice():
    assert len({str(spec) for spec in SPECS}) == len(SPECS)


def test_every_file_has_a_floor():
    assert {path.stem for path in PACKAGE.glob("*.py")} == {*HEIGHT, "__init__"}


@pytest.mark.parametrize("file", HEIGHT)
def test_imports_run_downward(file):
    for imported in imports(PACKAGE / f"{file}.py"):
        assert imported in HEIGHT, f"{file} imports {imported}"
        assert HEIGHT[imported] < HEIGHT[file], f"{file} imports upward: {imported}"


def test_only_the_namespace_is_in_init():
    *statements, names = ast.parse((PACKAGE / "__init__.py").read_text()).body[1:]
    assert all(isinstance(node, ast.ImportFrom) for node in statements)
    assert isinstance(names, ast.Assign)
    assert [ast.unparse(name) for name in names.targets] == ["__all__"]


def test_the_oracle_is_without_jax():
    nodes = list(ast.walk(ast.parse((PACKAGE / "verify/_oracle.py").read_text())))
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert modules == {"collections.abc", "functools", "itertools", "typing", "mpmath", "numpy"}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_documented(name):
    """Each docstring says what comes, what returns, what is refused, and shows a call, which runs as a doctest."""
    text = inspect.getdoc(getattr(sl, name)) or ""
    for section in ("Args:", "Returns:", "Raises:", "Example:", ">>> ", "References:"):
        assert section in text, f"{name}: no {section}"


def test_typed():
    assert (PACKAGE / "py.typed").exists()
