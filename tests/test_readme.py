"""README, docs and metadata say what is so."""

import doctest
import re
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import stablelogits_jax as sl

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DEPARTURES = (ROOT / "docs" / "departures.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

COMMON = {
    **{name: getattr(jax, name) for name in ("grad", "hessian", "jit")},
    **{name: getattr(jnp, name) for name in ("array", "bfloat16", "float16", "inf", "nan", "ones", "zeros")},
}
PEERS = {
    **COMMON,
    **vars(jax.scipy.special),
    **vars(jax.nn),
    "logaddexp": jnp.logaddexp,
    **vars(optax.losses),
    **vars(optax),
}
OURS = {**COMMON, **vars(sl)}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def rows(text: str) -> list[list[str]]:
    """The cells of the rows `| call | theirs | ours |`, each cell in backquotes."""
    return [re.findall("`([^`]+)`", line) for line in text.splitlines() if re.match(r"\| `.*\(", line)]


def outcome(call: str, names: dict) -> str:
    """The result of the call as the tables show it: three digits of each number, or the name of the error."""
    try:
        result = eval(call, names)
    except Exception as error:
        return type(error).__name__
    if not isinstance(result, jax.Array):
        return str(result)
    shown = np.array2string(
        np.asarray(result, np.float64) + 0.0, separator=", ", formatter={"float_kind": lambda number: f"{number:.3g}"}
    )
    return " ".join(shown.split())


@pytest.fixture(autouse=True)
def promotion_as_users_have_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the tables say what is returned on a CPU")
@pytest.mark.parametrize(("call", "theirs", "ours"), rows(README) + rows(DEPARTURES))
def test_tables(call, theirs, ours):
    assert theirs != ours
    assert outcome(call, OURS) == ours
    found = outcome(call, PEERS)
    if found == "NameError":
        pytest.skip("this version of JAX has no such function")
    assert found == theirs


def test_readme_code_runs():
    names: dict = {}
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec"), names)
    assert f"# {names['loss']:.4f}: " in README
    for session in blocks("pycon"):
        test = doctest.DocTestParser().get_doctest(session, names, "README.md", None, None)
        assert test.examples
        assert doctest.DocTestRunner().run(test).failed == 0


def test_readme_is_short():
    assert len(README.splitlines()) < 150


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
    for script in re.findall(r"python (\S+\.py)", README):
        assert (ROOT / script).exists(), script


def test_versions_agree():
    minimum = dict(re.findall(r"'(\w+)>=([\d.]+)'", str(PROJECT["dependencies"])))
    assert f"Python {PROJECT['requires-python'].removeprefix('>=')} or newer" in README
    assert f"JAX {minimum['jax']} or newer" in README
    assert f"\nversion: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()


def test_every_name_is_documented():
    api = "".join(page.read_text() for page in ROOT.glob("docs/api/*.md"))
    assert sorted(re.findall(r"^::: stablelogits_jax\.(\w+)$", api, re.MULTILINE)) == sorted(sl.__all__)
    names = README.partition("## Names")[2].partition("\n\nWhere")[0]
    assert sorted(re.findall(r"`(\w+)`", names)) == sorted(sl.__all__)


def test_commit_hooks_are_the_checks_of_ci():
    hooks = re.findall(r"^ +entry: (.+)$", (ROOT / ".pre-commit-config.yaml").read_text(), re.MULTILINE)
    assert hooks
    checks = re.findall(r'^run "(.+)"$', (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert set(hooks) == {check for check in checks if not check.startswith(("pip", "python"))}


def test_commands_name_extras_that_exist():
    extras = re.findall(r'pip install -e "\.\[(\w+)\]"', README)
    assert extras
    assert set(extras) <= set(PROJECT["optional-dependencies"])
