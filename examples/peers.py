"""Where the peers lose the answer: jax.nn, jax.scipy.special, optax and the textbook, beside this library.

What is learnt: answers are lost in three ways. A number near 1 forgets its distance to 1, so that values, slopes and
curvatures of what is nearly certain become 0. An infinity meets another, or a 0, and gives NaN, even where a mask
stands over it. And XLA, under `jit`, contracts `x * c - max` into one operation: what was 0 in eager mode no longer is.

Every row is computed when it is printed, in float32 under `jit`: the expressions as they stand there, the peer's first,
or their derivatives by x. The exact value is that of the row's last string in the arithmetic of mpmath, differentiated
by mpmath; where no formula has an answer (an empty row, a label that no class has) it is the documented convention.

Run `python examples/peers.py`. It fails if ours is off by more than RTOL.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
from jax.typing import ArrayLike
from rich import box
from rich.console import Console
from rich.table import Table

import stablelogits_jax as sl

RTOL = 1e-6  # eight units in the last place of float32
BCE = "sigmoid_binary_cross_entropy"
KL_OPTAX = "optax.kl_divergence(jax.nn.log_softmax(row(18, 0)), jax.nn.softmax(row(x, 0)))"
KL = "sigmoid(x) * log(sigmoid(x) / sigmoid(18)) + sigmoid(-x) * log(sigmoid(-x) / sigmoid(-18))"
CE = "softmax_cross_entropy_with_integer_labels"


class Row(NamedTuple):
    order: int  # of the derivative
    x: float
    theirs: str
    ours: str
    exact: str


def same(order: int, x: float, peer: str, call: str, exact: str) -> Row:
    """Ours has the name and the arguments of the peer's."""
    return Row(order, x, f"{peer}.{call}", f"sl.{call}", exact)


def row(*entries: ArrayLike) -> jax.Array:
    return jnp.stack([jnp.asarray(entry, dtype=jnp.float32) for entry in entries])


JAX_NAMES = {"jax": jax, "jnp": jnp, "optax": optax, "sl": sl, "row": row, "inf": jnp.inf, "nan": jnp.nan}
MPMATH_NAMES = vars(mpmath) | {"sigmoid": lambda x: 1 / (1 + mpmath.exp(-x))}

TABLES = {
    "Values": [
        same(0, 0.49999997, "jax.scipy.special", "logit(x)", "log(x / (1 - x))"),
        same(0, 17, "jax.nn", "log_softmax(row(x, 0))[0]", "log(sigmoid(x))"),
        same(0, -17, "jax.nn", "logsumexp(row(x, 0))", "log(1 + exp(x))"),
        same(0, 17, "optax", "softmax_cross_entropy(row(x, 0), row(1, 0))", "-log(sigmoid(x))"),
        same(0, 6.5, "optax", f"{CE}(row(x, 0).astype('bfloat16'), 0)", "-log(sigmoid(x))"),
        Row(0, -104, "jnp.log(jax.nn.sigmoid(x))", "sl.log_sigmoid(x)", "log(sigmoid(x))"),
        Row(0, -1e-9, "jax.scipy.special.logit(jnp.exp(x))", "sl.logitexp(x)", "log(exp(x) / (1 - exp(x)))"),
        Row(0, 100, "jnp.log(jnp.expm1(x))", "sl.softplus_inverse(x)", "log(exp(x) - 1)"),
        Row(0, 1e-4, "jnp.log(jnp.cosh(x))", "sl.log_cosh(x)", "log(cosh(x))"),
        Row(0, 99, "jnp.log(jnp.exp(x) - jnp.exp(98.0))", "sl.logsubexp(x, 98.0)", "log(exp(x) - exp(98))"),
        Row(
            order=0,
            x=20,
            theirs="jnp.log(jax.nn.sigmoid(x) - jax.nn.sigmoid(19.0))",
            ours="sl.log_sigmoid_diff(x, 19.0)",
            exact="log(sigmoid(x) - sigmoid(19))",
        ),
        Row(0, 20, KL_OPTAX, "sl.kl_from_logits(row(x, 0), row(18, 0))", KL),
    ],
    "Slopes": [
        same(1, 20, "jax.nn", "sigmoid(x)", "sigmoid(x)"),
        same(1, 20, "jax.nn", "softmax(row(x, 0))[0]", "sigmoid(x)"),
        same(1, 20, "jax.nn", "log_softmax(row(x, 0))[0]", "log(sigmoid(x))"),
        same(1, 20, "optax", "softmax_cross_entropy(row(x, 0), row(1, 0))", "-log(sigmoid(x))"),
        same(1, 20, "optax", f"{CE}(row(x, 0), 0)", "-log(sigmoid(x))"),
    ],
    "Curvatures": [
        same(2, 20, "jax.nn", "sigmoid(x)", "sigmoid(x)"),
        same(2, 20, "jax.nn", "softplus(x)", "log(1 + exp(x))"),
        same(2, -20, "jax.nn", "log_sigmoid(x)", "log(sigmoid(x))"),
        same(2, 1e-19, "jax.scipy.special", "logit(x)", "log(x / (1 - x))"),
        same(2, 50, "jax.nn", "log1mexp(x)", "log(1 - exp(-x))"),
        same(2, 20, "jnp", "logaddexp(x, 0.0)", "log(1 + exp(x))"),
        same(2, 20, "jax.nn", "logsumexp(row(x, 0))", "log(1 + exp(x))"),
        same(2, -20, "optax", f"{BCE}(x, 1)", "-log(sigmoid(x))"),
        same(2, -20, "optax", "sigmoid_focal_loss(x, 1)", "-((1 - sigmoid(x)) ** 2) * log(sigmoid(x))"),
    ],
    "Infinities, masks and labels": [
        same(0, jnp.inf, "jax.nn", "softmax(row(x, 0))[0]", "1"),
        same(1, 0, "jax.nn", "logsumexp(row(x + inf, 0))", "x"),
        same(0, 0, "jax.nn", "softmax(row(x - inf, -inf))[0]", "0"),
        same(1, 0, "jax.nn", "logsumexp(row(x - inf, -inf))", "0"),
        same(0, jnp.inf, "optax", f"{BCE}(x, 1)", "0"),
        same(0, 1, "optax", "softmax_cross_entropy(row(x, 0, -inf), row(1, 0, 0))", "-log(sigmoid(x))"),
        Row(1, 1, f"jnp.where(x > 9, optax.{BCE}(x + nan, 1), 0)", f"sl.{BCE}(x + nan, 1, where=x > 9)", "0"),
        Row(0, 1, "jnp.mean(row(x, x), where=False)", "sl.masked_mean(row(x, x), where=False)", "0"),
        same(0, 1, "optax", f"{CE}(row(x, 0), -1)", "nan"),
        same(1, 1, "optax", f"{CE}(row(x, 0), 2)", "nan"),
    ],
    "Fused under jit": [
        same(0, 1e12, "jax.nn", "softmax(row(1, 0.3, 0.9) * x / 0.7)[0]", "1"),
        same(0, 1e12, "jax.nn", "logsumexp(row(1, 0.3, 0.9) * x / 0.7)", "x / 0.7"),
        same(0, 1e12, "optax", f"{CE}(row(1, 0.3, 0.9) * x / 0.7, 1)", "x"),
    ],
}


def computed(expression: str, order: int, x: float) -> float:
    """An expression in x, or its derivative, by JAX."""

    def function(x: jax.Array) -> jax.Array:
        return eval(expression, JAX_NAMES | {"x": x}).astype(jnp.float32)

    for _ in range(order):
        function = jax.grad(function)
    return float(jax.jit(function)(jnp.float32(x)))


def exact(expression: str, order: int, x: float) -> float:
    """A formula in x, or its derivative, by mpmath."""
    with mpmath.workdps(100):
        return float(mpmath.diff(lambda x: mpmath.mpf(eval(expression, MPMATH_NAMES | {"x": x})), np.float32(x), order))


def main() -> None:
    console = Console()
    wrong = []
    for title, rows in TABLES.items():
        table = Table("", "expression", "result", title=title, box=box.SIMPLE)
        for order, x, theirs, ours, formula in rows:
            truth, peer, result = exact(formula, order, x), computed(theirs, order, x), computed(ours, order, x)
            np.testing.assert_allclose(result, truth, rtol=RTOL, err_msg=ours)
            wrong.append(not np.isclose(peer, truth, rtol=0.01, atol=0, equal_nan=True))
            table.add_row("f" + order * "'", theirs, f"[red]{peer:.6g}")
            table.add_row("", ours, f"[green]{result:.6g}")
            table.add_row("", f"exact, at x = {x:.8g}", f"{truth:.6g}", end_section=True)
        console.print(table)
    console.print(f"{len(wrong)} rows: ours is right to {RTOL:g} in all, the peer is off by over 1% in {sum(wrong)}.")


if __name__ == "__main__":
    main()
