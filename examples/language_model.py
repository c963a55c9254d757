"""Train a Flax language model whose words are split over the devices of one process, or of several.

What is learnt: the loss of a vocabulary that is split over a mesh axis is one call inside `jax.shard_map`,
`sl.linear_softmax_cross_entropy(hidden, kernel, labels, axis_name="model")`. Each device holds the columns of its own
words; neither the kernel nor the logits of a batch are ever gathered. Around the call stands a Flax model under
`nnx.jit` as it always was, its batch split over the other axis of the mesh, "data". Paragraphs are padded with labels
that `ignore_index` leaves out, and the vocabulary with words that are absent: their bias is -inf. The loss of the first
step and its gradient are compared with those of the logits of the whole vocabulary.

Run `python examples/language_model.py` for one process with 8 CPU devices, or with `--processes 2` for two with 4 each,
which find each other by `jax.distributed` on a port of 127.0.0.1 and run the same program. It learns this project's
documentation, fails if it has not learnt, and draws the losses into `examples/out/language_model.png`.
"""

import argparse
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress

import stablelogits_jax as sl

DATA, MODEL = 2, 4  # the mesh: parts of a batch, and parts of the vocabulary
STEPS, BATCH, LENGTH, WIDTH = 120, 32, 48, 64
START, PADDING = 0, -1  # what precedes the first word, and the label of what follows the last
PATIENCE = 240  # seconds, after which processes that still run are ended
ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "examples" / "out" / "language_model.png"


class Batch(NamedTuple):
    words: jax.Array  # [BATCH, LENGTH]
    labels: jax.Array  # the words that follow


def paragraphs() -> list[list[str]]:
    """The documentation's paragraphs as words and signs, none longer than LENGTH."""
    pages = [page.read_text() for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))]
    pages += [getattr(sl, name).__doc__ for name in sl.__all__]
    texts = (re.findall(r"\w+|[^\w\s]", part) for page in pages for part in re.split(r"\n\s*\n", page))
    return [text[i : i + LENGTH] for text in texts for i in range(0, len(text), LENGTH)]


def numbered(texts: list[list[str]]) -> tuple[np.ndarray, Counter[str]]:
    """Words and labels of all paragraphs, [2, n, LENGTH], and how often each word occurs."""
    counts = Counter(word for text in texts for word in text)
    number = {word: i for i, word in enumerate(counts, START + 1)}
    labels = np.full((len(texts), LENGTH), PADDING)
    for row, text in zip(labels, texts, strict=True):
        row[: len(text)] = [number[word] for word in text]
    words = np.pad(np.maximum(labels, START), ((0, 0), (1, 0)), constant_values=START)[:, :-1]
    return np.stack([words, labels]), counts


class LanguageModel(nnx.Module):
    """Hidden states made of the words so far, and the head, split by words."""

    def __init__(self, vocabulary: int, rngs: nnx.Rngs) -> None:
        def absent_beyond(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
            return jnp.where(jnp.arange(shape[0]) < vocabulary, jnp.zeros(shape, dtype), -jnp.inf)

        self.embed = nnx.Embed(vocabulary, WIDTH, rngs=rngs)
        self.mixers = nnx.List(mixer(rngs) for _ in range(2))
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.head = nnx.Linear(
            WIDTH,
            -(-vocabulary // MODEL) * MODEL,
            kernel_init=nnx.with_partitioning(nnx.initializers.lecun_normal(), (None, "model")),
            bias_init=nnx.with_partitioning(absent_beyond, ("model",)),
            rngs=rngs,
        )

    def __call__(self, words: jax.Array) -> jax.Array:
        x = self.embed(words)
        for mix in self.mixers:
            x = x + mix(x)
        return self.norm(x)


def mixer(rngs: nnx.Rngs) -> nnx.Sequential:
    return nnx.Sequential(
        nnx.LayerNorm(WIDTH, rngs=rngs),
        nnx.Conv(WIDTH, 2 * WIDTH, kernel_size=4, padding="CAUSAL", rngs=rngs),
        nnx.gelu,
        nnx.Linear(2 * WIDTH, WIDTH, rngs=rngs),
    )


@jax.shard_map(in_specs=(P("data"), P(None, "model"), P("model"), P("data")), out_specs=P("data"))
def split_loss(hidden: jax.Array, kernel: jax.Array, bias: jax.Array, labels: jax.Array) -> jax.Array:
    """What runs on each device, with its part of each array."""
    return sl.linear_softmax_cross_entropy(hidden, kernel, labels, bias=bias, ignore_index=PADDING, axis_name="model")


def plain_loss(hidden: jax.Array, kernel: jax.Array, bias: jax.Array, labels: jax.Array) -> jax.Array:
    hidden, kernel, bias, labels = jax.lax.with_sharding_constraint((hidden, kernel, bias, labels), P())
    return sl.softmax_cross_entropy_with_integer_labels(hidden @ kernel + bias, labels, ignore_index=PADDING)


def mean_loss(model: LanguageModel, batch: Batch, loss: Callable[..., jax.Array]) -> jax.Array:
    """Over the words of the whole batch: outside of `jax.shard_map` arrays are whole."""
    head: Any = model.head
    of_words = loss(model(batch.words), head.kernel[...], head.bias[...], batch.labels)
    return sl.masked_mean(of_words, where=batch.labels != PADDING)


@nnx.jit(static_argnums=2)
def loss_and_slopes(model: LanguageModel, batch: Batch, loss: Callable[..., jax.Array]) -> tuple[jax.Array, nnx.State]:
    return nnx.value_and_grad(partial(mean_loss, loss=loss))(model, batch)


@nnx.jit
def update(model: LanguageModel, optimizer: nnx.Optimizer, slopes: nnx.State) -> None:
    optimizer.update(model, slopes)


@jax.jit
def difference(slopes: nnx.State, truth: nnx.State) -> jax.Array:
    """The largest, as a part of the largest slope of its parameter."""
    off = jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)), slopes, truth)
    return jnp.max(jnp.stack(jax.tree.leaves(off)))


@nnx.jit(static_argnums=0)
def initial(vocabulary: int) -> tuple[LanguageModel, nnx.Optimizer]:
    """Under `nnx.jit`, so that no device ever holds another's words."""
    model = LanguageModel(vocabulary, nnx.Rngs(0))
    return model, nnx.Optimizer(model, optax.adam(optax.cosine_decay_schedule(5e-3, STEPS)), wrt=nnx.Param)


def random_batches(examples: np.ndarray, mesh: Mesh) -> Iterator[Batch]:
    """Of the rows, which all processes draw alike, each hands over those of its own devices."""
    rng = np.random.default_rng(0)
    by_rows = NamedSharding(mesh, P("data"))
    while True:
        batch = examples[:, rng.choice(examples.shape[1], BATCH, replace=False)]
        yield Batch(*(jax.make_array_from_callback(a.shape, by_rows, a.__getitem__) for a in batch))


def check_first_step(model: LanguageModel, batch: Batch, console: Console) -> None:
    (split, slopes), (plain, truth) = (loss_and_slopes(model, batch, loss) for loss in (split_loss, plain_loss))
    off = float(difference(slopes, truth))
    console.print(f"First loss {split:.6f}, of whole logits {plain:.6f}; gradients differ by {off:.0e}.")
    assert abs(split - plain) < 1e-5 * plain
    assert off < 1e-4


def train(mesh: Mesh, console: Console) -> None:
    examples, counts = numbered(paragraphs())
    model, optimizer = initial(len(counts) + 1)
    batches = random_batches(examples, mesh)
    check_first_step(model, next(batches), console)
    losses = []
    with Progress(console=console) as progress:
        for batch in progress.track(islice(batches, STEPS), total=STEPS, description="Training"):
            loss, slopes = loss_and_slopes(model, batch, split_loss)
            update(model, optimizer, slopes)
            losses.append(float(loss))

    share = np.array(list(counts.values())) / counts.total()
    entropy = -np.sum(share * np.log(share))
    last = np.mean(losses[-10:])
    console.print(f"Loss before {losses[0]:.3f}, after {last:.3f}; of the words' frequencies alone {entropy:.3f}.")
    assert last < 0.7 * entropy, "it has not learnt"
    if jax.process_index() == 0:
        draw(losses, entropy)
        console.print(f"The losses are drawn in {PICTURE}")


def draw(losses: list[float], entropy: float) -> None:
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="mean cross entropy", title="The documentation, word by word")
    axes.plot(losses, label="batch")
    axes.axhline(entropy, color="C1", linestyle="--", label="by the frequencies alone")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=150)


def launch(processes: int) -> int:
    """Run this program as several processes; the first that fails ends the others, and so does the clock."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, __file__, f"--processes={processes}", f"--coordinator={coordinator}"]
    children = [subprocess.Popen([*command, f"--rank={rank}"]) for rank in range(processes)]
    deadline = time.monotonic() + PATIENCE
    try:
        while any(child.poll() is None for child in children) and time.monotonic() < deadline:
            if any(child.returncode for child in children):
                break
            time.sleep(0.1)
    finally:
        for child in children:
            child.kill()
    codes = [child.wait() for child in children]
    if any(codes):
        print(f"Exit codes of the processes: {codes}", file=sys.stderr)
    return int(any(codes))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a language model whose words are split over devices.")
    parser.add_argument("--processes", type=int, default=1, choices=[1, 2, 4])
    parser.add_argument("--coordinator", help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.processes > 1 and options.coordinator is None:
        sys.exit(launch(options.processes))

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", DATA * MODEL // options.processes)
    if options.processes > 1:
        jax.distributed.initialize(
            options.coordinator,
            options.processes,
            options.rank,
            cluster_detection_method="deactivate",
            coordinator_bind_address=options.coordinator,
            shutdown_timeout_seconds=20,  # what has failed waits no longer for those who wait for it
        )
    mesh = jax.make_mesh((DATA, MODEL), ("data", "model"), (AxisType.Auto, AxisType.Auto))
    with jax.set_mesh(mesh):
        train(mesh, Console(quiet=options.rank > 0))


if __name__ == "__main__":
    main()
