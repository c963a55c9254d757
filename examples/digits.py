"""Train a Flax classifier with the losses of stablelogits_jax, in float32 and in bfloat16.

What is learnt: the loss is one call, `sl.softmax_cross_entropy_with_integer_labels(logits, labels)`, and one call
reduces it, `sl.masked_mean`, whose mask lets the last batch be padded to the size of the others. Nothing changes for a
model that computes in bfloat16: the loss of 16-bit logits comes back in float32, its gradient in the logits' type. A
network that has learnt its examples is sure of nearly all of them, and the loss of a sure example is a small number.
The last two columns count the training examples whose loss is exactly 0, here and with optax, on the same logits.

Run `python examples/digits.py`. It trains on the 8 x 8 digits of scikit-learn, prints the test accuracies and draws the
losses into `examples/out/digits.png`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import stablelogits_jax as sl

EPOCHS = 40
BATCH = 128
PICTURE = Path(__file__).parent / "out" / "digits.png"


class Examples(NamedTuple):
    images: jax.Array  # [n, 64], from 0 to 1
    labels: jax.Array  # [n]


class Classifier(nnx.Module):
    """Two hidden layers: parameters in float32, arithmetic and logits in `dtype`."""

    def __init__(self, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(64, 128, dtype=dtype, rngs=rngs)
        self.second = nnx.Linear(128, 128, dtype=dtype, rngs=rngs)
        self.last = nnx.Linear(128, 10, dtype=dtype, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.last(nnx.relu(self.second(nnx.relu(self.first(images)))))


def mean_loss(model: Classifier, batch: Examples, where: ArrayLike | None = None) -> jax.Array:
    loss = sl.softmax_cross_entropy_with_integer_labels(model(batch.images), batch.labels)
    return sl.masked_mean(loss, where=where)


@nnx.jit
def train_step(model: Classifier, optimizer: nnx.Optimizer, batch: Examples, where: ArrayLike) -> None:
    optimizer.update(model, nnx.grad(mean_loss)(model, batch, where))


evaluate = nnx.jit(mean_loss)


def shuffled_batches(examples: Examples, rng: np.random.Generator) -> Iterator[tuple[Examples, np.ndarray]]:
    """Batches of one size, so that one compilation serves them all; the mask tells examples from padding."""
    order = rng.permutation(len(examples.labels))
    for start in range(0, len(order), BATCH):
        rows = np.resize(order[start : start + BATCH], BATCH)
        yield Examples(examples.images[rows], examples.labels[rows]), start + np.arange(BATCH) < len(order)


def fit(dtype: DTypeLike, train: Examples, test: Examples, progress: Progress) -> tuple[Classifier, np.ndarray]:
    """Return the trained model and, for each epoch, its loss on the training and on the test set."""
    model = Classifier(dtype, nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(2e-3), wrt=nnx.Param)
    rng = np.random.default_rng(0)
    losses = []
    task = progress.add_task(jnp.dtype(dtype).name, total=EPOCHS)
    for _ in range(EPOCHS):
        for batch, where in shuffled_batches(train, rng):
            train_step(model, optimizer, batch, where)
        losses.append([evaluate(model, train), evaluate(model, test)])
        progress.update(task, advance=1)
    return model, np.array(losses)


def draw(losses: dict[str, np.ndarray]) -> None:
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot(yscale="log", xlabel="epoch", ylabel="mean cross entropy", title="Digits, Flax and optax")
    epochs = np.arange(1, EPOCHS + 1)
    for name, width, alpha in zip(losses, (6, 1.5), (0.3, 1), strict=True):
        for part, color, loss in zip(("training", "test"), ("C0", "C1"), losses[name].T, strict=True):
            axes.plot(epochs, loss, color=color, linewidth=width, alpha=alpha, label=f"{part}, {name}")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=150)


def main() -> None:
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images / 16, labels, test_size=0.2, stratify=labels, random_state=0)
    train_images, test_images, train_labels, test_labels = map(jnp.asarray, parts)
    train, test = Examples(train_images, train_labels), Examples(test_images, test_labels)

    table = Table("type", "test accuracy", "training loss", "test loss", "losses of 0", "of 0 with optax")
    losses = {}
    with Progress() as progress:
        for dtype in (jnp.float32, jnp.bfloat16):
            name = jnp.dtype(dtype).name
            model, losses[name] = fit(dtype, train, test, progress)
            accuracy = float(jnp.mean(jnp.argmax(model(test.images), axis=-1) == test.labels))
            assert accuracy > 0.95, f"{name}: test accuracy {accuracy:.4f}"
            logits = model(train.images)
            zeros = jnp.sum(sl.softmax_cross_entropy_with_integer_labels(logits, train.labels) == 0)
            optax_zeros = jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, train.labels) == 0)
            figures = (f"{accuracy:.4f}", *(f"{loss:.2e}" for loss in losses[name][-1]), f"{zeros}", f"{optax_zeros}")
            table.add_row(name, *figures)
    draw(losses)
    console = Console()
    console.print(table)
    console.print(f"The losses are drawn in {PICTURE}")


if __name__ == "__main__":
    main()
