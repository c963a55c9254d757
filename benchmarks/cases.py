"""The functions that have a peer, the peer, and the data that both are given."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy import special

LENGTHS = [(1_000,), (100_000,), (1_000_000,), (10_000_000,)]
ROWS = [(8192, 10), (1024, 1000), (256, 32768), (32, 131072)]


class Function(NamedTuple):
    peer: Callable[..., jax.Array]
    arguments: tuple[str, ...]  # what `draw` makes
    loss: bool = False  # differentiated by the logits alone; the others by every argument


ELEMENTWISE = {
    "sigmoid": Function(jax.nn.sigmoid, ("real",)),
    "log_sigmoid": Function(jax.nn.log_sigmoid, ("real",)),
    "softplus": Function(jax.nn.softplus, ("real",)),
    "logit": Function(special.logit, ("probability",)),
    "log_cosh": Function(optax.log_cosh, ("real",)),
    "logaddexp": Function(jnp.logaddexp, ("real", "real")),
    "xlogy": Function(special.xlogy, ("real", "probability")),
    "xlog1py": Function(special.xlog1py, ("real", "probability")),
    "entr": Function(special.entr, ("probability",)),
    "rel_entr": Function(special.rel_entr, ("probability", "probability")),
    "sigmoid_binary_cross_entropy": Function(optax.sigmoid_binary_cross_entropy, ("real", "bit"), loss=True),
    "sigmoid_focal_loss": Function(optax.sigmoid_focal_loss, ("real", "bit"), loss=True),
}
ALONG_ROWS = {
    "logsumexp": Function(jax.nn.logsumexp, ("logits",)),
    "softmax": Function(jax.nn.softmax, ("logits",)),
    "log_softmax": Function(jax.nn.log_softmax, ("logits",)),
    "softmax_cross_entropy": Function(optax.softmax_cross_entropy, ("logits", "one-hot"), loss=True),
    "softmax_cross_entropy_with_integer_labels": Function(
        optax.softmax_cross_entropy_with_integer_labels, ("logits", "label"), loss=True
    ),
}
if hasattr(jax.nn, "log1mexp"):  # older JAX lacks it, and the next
    ELEMENTWISE["log1mexp"] = Function(jax.nn.log1mexp, ("positive",))
if hasattr(jax.nn, "logmeanexp"):
    ALONG_ROWS["logmeanexp"] = Function(jax.nn.logmeanexp, ("logits",))


def draw(kind: str, rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> jax.Array:
    labels = rng.integers(shape[-1], size=shape[:-1])
    makers: dict[str, Callable[[], np.ndarray]] = {
        "logits": lambda: rng.standard_normal(shape, np.float32),
        "real": lambda: 5 * rng.standard_normal(shape, np.float32),
        "positive": lambda: 0.01 + 5 * rng.random(shape, np.float32),
        "probability": lambda: 0.01 + 0.98 * rng.random(shape, np.float32),
        "bit": lambda: rng.integers(2, size=shape),
        "one-hot": lambda: np.arange(shape[-1]) == labels[..., None],
    }
    return jnp.asarray(labels) if kind == "label" else jnp.asarray(makers[kind](), dtype)
