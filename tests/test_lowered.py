"""What XLA makes of the losses of integer labels: no array of one-hot labels, nor another of the logits' size."""

import re
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stablelogits_jax as sl

N, K = 256, 1536
LABEL = jnp.asarray(np.random.default_rng(0).integers(K, size=N))
WEIGHTS = jnp.linspace(0.5, 2, K)

LOSSES = {
    "softmax_cross_entropy_with_integer_labels": lambda x, y: sl.softmax_cross_entropy_with_integer_labels(x, y),
    "weights, label_smoothing": lambda x, y: sl.softmax_cross_entropy_with_integer_labels(
        x, y, weights=WEIGHTS, label_smoothing=0.1
    ),
    "ignore_index, z_loss": lambda x, y: sl.softmax_cross_entropy_with_integer_labels(
        x, y, ignore_index=0, z_loss=1e-3
    ),
    "log_prob_from_logits": lambda x, y: sl.log_prob_from_logits(x, y),
    "softmax_focal_loss_with_integer_labels": lambda x, y: sl.softmax_focal_loss_with_integer_labels(x, y),
    "softmax_focal_loss_with_integer_labels, weights, label_smoothing": lambda x, y: (
        sl.softmax_focal_loss_with_integer_labels(x, y, weights=WEIGHTS, label_smoothing=0.1)
    ),
    "soft_cap": lambda x, y: sl.softmax_cross_entropy_with_integer_labels(x, y, soft_cap=30.0),
    "where, label_smoothing": lambda x, y: sl.softmax_cross_entropy_with_integer_labels(
        x, y, where=x > -1, label_smoothing=0.1, z_loss=1e-3
    ),
    "axis": lambda x, y: sl.softmax_cross_entropy_with_integer_labels(x.T, y, axis=0),
    "ordinal_cross_entropy": lambda x, y: sl.ordinal_cross_entropy(x[:, 0], y, jnp.arange(K - 1.0)),
}


def of_labels(f):
    """The arrays of the logits' size that the compiled program writes, and that depend on the labels and not
    on the logits, as one-hot ones do. Instructions inside fusions write nothing."""
    text = jax.jit(f).lower(jnp.zeros((N, K)), LABEL).compile().as_text()
    assert text is not None
    entry = text[text.index("ENTRY") :]
    depends: dict[str, set[str]] = {}
    found = []
    for name, result, made, operands in re.findall(r"%([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\(([^)]*)", entry):
        used = re.findall(r"%([\w.-]+)", operands)
        depends[name] = {operands} if made == "parameter" else set().union(*(depends[u] for u in used))
        sizes = [prod(map(int, of.split(","))) for of in re.findall(r"\w+\[([\d,]+)\]", result)]
        if max(sizes, default=0) >= N * (K - 1) and depends[name] == {"1"}:
            found.append(f"{name}: {result}")
    return found


@pytest.mark.parametrize("name", LOSSES)
def test_no_one_hot_labels(name):
    f = LOSSES[name]
    assert of_labels(f) == []
    assert of_labels(gradient := jax.grad(lambda x, y: jnp.sum(f(x, y)))) == []
    assert of_labels(lambda x, y: jax.jvp(lambda x: gradient(x, y), (x,), (x,))[1]) == []


def test_one_hot_labels_are_seen():
    """XLA fuses one-hot labels into what uses them, but for a product of matrices."""

    def loss(x: jax.Array, y: jax.Array) -> jax.Array:
        return sl.softmax_cross_entropy(x, jax.nn.one_hot(y, K) @ jnp.eye(K))

    assert of_labels(loss)
    assert of_labels(jax.grad(lambda x, y: jnp.sum(loss(x, y))))


@pytest.mark.parametrize("name", ["softmax_cross_entropy_with_integer_labels", "log_prob_from_logits"])
def test_a_value_writes_no_array_of_the_logits_size(name):
    compiled = jax.jit(LOSSES[name]).lower(jnp.zeros((N, K)), LABEL).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < N * K * 4
