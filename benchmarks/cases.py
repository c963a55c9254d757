"""The functions, the peer of each or its plain formula, and the data that both are given."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy import special
from jax.typing import ArrayLike
from plain import (
    bernoulli_kl,
    bradley_terry,
    capped,
    distillation,
    dpo,
    entropy,
    focal,
    focal_of_integers,
    info_nce,
    ipo,
    js,
    kl,
    kto,
    log_square,
    matching,
    ordinal,
    orpo,
    sigmoid_contrastive,
    simpo,
    smoothed,
    with_z_loss,
)

LENGTHS = [(1_000,), (100_000,), (1_000_000,), (10_000_000,)]
ANSWERS = LENGTHS[:2]
ROWS = [(8192, 10), (1024, 1000), (256, 32768), (32, 131072)]
EMBEDDINGS = [(128, 64), (1024, 256)]


class Function(NamedTuple):
    peer: Callable[..., jax.Array]
    arguments: tuple[str, ...]  # what `draw` makes
    loss: bool = False  # differentiated by the first argument alone; the others by every argument
    plain: bool = False  # whether the peer is the formula as a textbook has it
    shapes: list | None = None
    options: dict | None = None


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
PLAIN = {
    "bernoulli_kl_from_logits": Function(bernoulli_kl, ("real", "real"), plain=True),
    "ordinal_cross_entropy": Function(ordinal, ("real", "class", "cutpoints"), True, True),
    "bradley_terry_loss": Function(bradley_terry, ("real", "real"), True, True, ANSWERS),
    "simpo_loss": Function(simpo, ("log-probability",) * 2, True, True, ANSWERS),
    "orpo_loss": Function(orpo, ("log-probability",) * 2, True, True, ANSWERS),
    "dpo_loss": Function(dpo, ("log-probability",) * 4, True, True, ANSWERS),
    "ipo_loss": Function(ipo, ("log-probability",) * 4, True, True, ANSWERS),
    "kto_loss": Function(kto, ("log-probability",) * 2 + ("mask",), True, True, ANSWERS),
    "info_nce_loss": Function(info_nce, ("logits", "logits"), True, True, EMBEDDINGS),
    "sigmoid_contrastive_loss": Function(sigmoid_contrastive, ("logits", "logits"), True, True, EMBEDDINGS),
}
ALONG_ROWS = {
    "logsumexp": Function(jax.nn.logsumexp, ("logits",)),
    "softmax": Function(jax.nn.softmax, ("logits",)),
    "log_softmax": Function(jax.nn.log_softmax, ("logits",)),
    "softmax_cross_entropy": Function(optax.softmax_cross_entropy, ("logits", "one-hot"), loss=True),
    "softmax_cross_entropy_with_integer_labels": Function(
        optax.softmax_cross_entropy_with_integer_labels, ("logits", "label"), loss=True
    ),
    "softmax_cross_entropy_with_integer_labels, soft_cap": Function(
        capped, ("logits", "label"), True, True, options={"soft_cap": 30.0}
    ),
    "softmax_cross_entropy_with_integer_labels, z_loss": Function(
        with_z_loss, ("logits", "label"), True, True, options={"z_loss": 1e-4}
    ),
    "softmax_cross_entropy_with_integer_labels, label_smoothing": Function(
        smoothed, ("logits", "label"), True, True, options={"label_smoothing": 0.1}
    ),
    "z_loss": Function(log_square, ("logits",), True, True),
    "poly_loss_cross_entropy": Function(optax.losses.poly_loss_cross_entropy, ("logits", "one-hot"), loss=True),
    "softmax_focal_loss": Function(focal, ("logits", "one-hot"), True, True),
    "softmax_focal_loss_with_integer_labels": Function(focal_of_integers, ("logits", "label"), True, True),
    "kl_divergence": Function(optax.losses.kl_divergence, ("log-shares", "shares"), loss=True),
    "kl_divergence_with_log_targets": Function(
        optax.losses.kl_divergence_with_log_targets, ("log-shares", "log-shares"), loss=True
    ),
    "generalized_kl_divergence": Function(optax.losses.generalized_kl_divergence, ("log-shares", "shares"), loss=True),
    "entropy_from_logits": Function(entropy, ("logits",), True, True),
    "kl_from_logits": Function(kl, ("logits", "logits"), plain=True),
    "js_divergence": Function(js, ("log-shares", "log-shares"), True, True),
    "distillation_loss": Function(distillation, ("logits", "logits"), True, True, options={"temperature": 2.0}),
    "logit_matching_loss": Function(matching, ("logits", "logits"), True, True),
}
if hasattr(jax.nn, "log1mexp"):  # older JAX lacks it, and the next
    ELEMENTWISE["log1mexp"] = Function(jax.nn.log1mexp, ("positive",))
if hasattr(jax.nn, "logmeanexp"):
    ALONG_ROWS["logmeanexp"] = Function(jax.nn.logmeanexp, ("logits",))


def draw(kind: str, rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> jax.Array:
    labels = rng.integers(shape[-1], size=shape[:-1])
    if kind == "label":
        return jnp.asarray(labels)
    if kind == "class":
        return jnp.asarray(rng.integers(4, size=shape))
    if kind == "mask":
        return jnp.asarray(rng.random(shape) < 0.5)
    makers: dict[str, Callable[[], ArrayLike]] = {
        "logits": lambda: rng.standard_normal(shape, np.float32),
        "real": lambda: 5 * rng.standard_normal(shape, np.float32),
        "positive": lambda: 0.01 + 5 * rng.random(shape, np.float32),
        "probability": lambda: 0.01 + 0.98 * rng.random(shape, np.float32),
        "bit": lambda: rng.integers(2, size=shape),
        "one-hot": lambda: np.arange(shape[-1]) == labels[..., None],
        "cutpoints": lambda: np.array([-2.0, 0.0, 2.0]),
        "log-probability": lambda: -0.1 - 5 * rng.random(shape, np.float32),
        "shares": lambda: jax.nn.softmax(rng.standard_normal(shape, np.float32)),
        "log-shares": lambda: jax.nn.log_softmax(rng.standard_normal(shape, np.float32)),
    }
    return jnp.asarray(makers[kind](), dtype)
