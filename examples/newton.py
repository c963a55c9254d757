"""Logistic regression by Newton's method on data that separate, so that the logits run to the extremes.

What is learnt: on separable data the infimum of the loss is 0 and lies at infinity. On the way there each Newton step
divides the loss by about the same, while loss, gradient and exact Hessian (`jax.hessian`, float32) keep their digits:

- the textbook's `y log p + (1 - y) log(1 - p)` is NaN as soon as one p rounds to 1;
- `log p(label)` is 0, with zero gradient, from a logit of 17 on, and the Hessian becomes singular;
- optax's loss goes all the way, as ours does: on the right side of the boundary all its derivatives are right;
- on the wrong side optax's curvature is lost. The Hessian of logistic regression does not depend on the labels; the
  last columns take it at the last weights, with the labels as they are and with all of them turned around.

Run `python examples/newton.py`. It draws `examples/out/newton.png`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

import stablelogits_jax as sl

STEPS = 100
SHOWN = (0, 1, 2, 3, 4, 5, 10, 15, 20, 40, 60, 80, 100)
DAMPING = 1e-6  # of the largest curvature, vanishing with it: float32 solves nothing that is conditioned worse
OURS = "stablelogits_jax"
PICTURE = Path(__file__).parent / "out" / "newton.png"

Loss = Callable[[jax.Array, jax.Array], jax.Array]  # (logits, labels) -> loss of each example


def textbook(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p = jax.nn.sigmoid(logits)
    return -(labels * jnp.log(p) + (1 - labels) * jnp.log(1 - p))


def textbook_right_label(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return -jnp.log(jax.nn.sigmoid(jnp.where(labels == 1, logits, -logits)))


LOSSES: dict[str, Loss] = {
    "log p, log(1-p)": textbook,
    "log p(label)": textbook_right_label,
    "optax": optax.sigmoid_binary_cross_entropy,
    OURS: sl.sigmoid_binary_cross_entropy,
}


class Iterate(NamedTuple):
    loss: float
    exact: float  # the loss of the same logits, computed in float64
    gradient: float  # largest component
    logit: float  # largest size
    margin: float  # smallest logit for the right label; above 0 once the data are separated
    smallest: float  # smallest loss of an example, those of 0 aside
    lost: float  # how many examples have a loss of 0 or NaN where the exact one is a normal float32


@partial(jax.jit, static_argnames="loss")
def expansion(loss: Loss, weights: jax.Array, inputs: jax.Array, labels: jax.Array) -> tuple[jax.Array, ...]:
    """Gradient and Hessian of the mean loss, with the logits and the losses of the examples."""

    def mean_loss(weights: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        losses = loss(logits := inputs @ weights, labels)
        return jnp.mean(losses), (logits, losses)

    gradient, (logits, losses) = jax.grad(mean_loss, has_aux=True)(weights)
    hessian, _ = jax.hessian(mean_loss, has_aux=True)(weights)
    return gradient, hessian, logits, losses


def newton(loss: Loss, inputs: jax.Array, labels: jax.Array) -> tuple[jax.Array, list[Iterate]]:
    """Newton's method from 0, for as long as the step is finite: the last weights and what each step saw."""
    weights, history = jnp.zeros(inputs.shape[1]), []
    while True:
        gradient, hessian, logits, losses = expansion(loss, weights, inputs, labels)
        margins = np.where(labels == 1, logits, -logits).astype(np.float64)
        exact = np.logaddexp(0, -margins)
        smallest = jnp.min(losses, where=losses > 0, initial=jnp.inf)
        lost = np.sum(~(losses > 0) & (exact >= np.finfo(np.float32).tiny))
        sizes = (losses.mean(), exact.mean(), abs(gradient).max(), abs(logits).max(), margins.min(), smallest, lost)
        history.append(Iterate._make(map(float, sizes)))
        scale = jnp.max(jnp.abs(hessian))
        step = jnp.linalg.solve(hessian / scale + DAMPING * jnp.eye(len(weights)), gradient / scale)
        if len(history) > STEPS or not jnp.all(jnp.isfinite(step)):
            return weights, history
        weights -= step


def draw(histories: dict[str, list[Iterate]]) -> None:
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, subplot_kw={"yscale": "log"})
    left.set(title="Newton's method: mean loss, × where it ends", xlabel="step")
    right.set(title="Second derivative for label 1", xlabel="logit")
    logits = jnp.linspace(-80, 80, 321)
    for (name, loss), style in zip(LOSSES.items(), ("C4s", "C1o", "C2o", "k-"), strict=True):
        losses = [iterate.loss for iterate in histories[name] if np.isfinite(iterate.loss)]
        left.plot(losses, style, markersize=3, label=name)
        if len(losses) <= STEPS:
            left.plot(len(losses) - 1, losses[-1], "x", color=style[:2], markersize=12, markeredgewidth=3)
        curvature = jax.vmap(jax.grad(jax.grad(loss)), in_axes=(0, None))(logits, jnp.float32(1))
        right.plot(logits, curvature, style, markersize=3)
    left.legend(frameon=False)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=150)


def main() -> None:
    features, classes = load_breast_cancer(return_X_y=True)
    inputs = np.column_stack([StandardScaler().fit_transform(features), np.ones(len(features))])
    inputs, labels = jnp.asarray(inputs, dtype=jnp.float32), jnp.asarray(classes, dtype=jnp.float32)
    ends = Table("", "steps", "loss", "exact", "lost", "curvature", "turned", title="The ends", box=box.SIMPLE)
    histories, curvatures = {}, {}
    for name, loss in LOSSES.items():
        weights, history = newton(loss, inputs, labels)
        curvatures[name] = [float(abs(expansion(loss, weights, inputs, y)[1]).max()) for y in (labels, 1 - labels)]
        last, lost = history[-1], max(iterate.lost for iterate in history)
        figures = (len(history) - 1, last.loss, last.exact, lost, *curvatures[name])
        ends.add_row(name, *(f"{figure:.3g}" for figure in figures))
        histories[name] = history
    draw(histories)

    steps = Table("step", *Iterate._fields, title=OURS, box=box.SIMPLE)
    for step in SHOWN:
        steps.add_row(f"{step}", *(f"{size:z.3g}" for size in histories[OURS][step]))
    Console().print(steps, ends, f"The losses and their curvatures are drawn in {PICTURE}")

    assert all(len(histories[name]) <= STEPS for name in ("log p, log(1-p)", "log p(label)"))
    for name in ("optax", OURS):
        loss, exact, *_, lost = np.array(histories[name]).T
        np.testing.assert_allclose(loss, exact, rtol=1e-5)
        assert loss[STEPS] < 1e-20
        assert not lost.any()
    np.testing.assert_allclose(*curvatures[OURS], rtol=1e-5)
    assert curvatures["optax"][1] == 0 < curvatures["optax"][0]


if __name__ == "__main__":
    main()
