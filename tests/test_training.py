"""Long runs of a model in bfloat16: a loss that keeps its tails drifts no more than one of float32 logits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

import stablelogits_jax as sl

STEPS, BATCH, HIDDEN, CLASSES = 2000, 64, 32, 10
IMAGES, LABELS = load_digits(return_X_y=True)
LOSSES = {
    "softmax_cross_entropy_with_integer_labels": sl.softmax_cross_entropy_with_integer_labels,
    "softmax_cross_entropy": lambda x, y: sl.softmax_cross_entropy(x, jax.nn.one_hot(y, CLASSES)),
    "softmax_focal_loss_with_integer_labels": sl.softmax_focal_loss_with_integer_labels,
    "sigmoid_binary_cross_entropy": lambda x, y: sl.sigmoid_binary_cross_entropy(x, jax.nn.one_hot(y, CLASSES)).sum(-1),
}


def trained(loss, seed, logits):
    """The mean loss of all images, each 100 steps, of a network of one hidden layer in bfloat16, whose logits are of a
    type. The optimizer's weights are float32, as is usual: an update is below a last digit of theirs in bfloat16."""
    keys = jax.random.split(jax.random.key(seed), 3)
    x, y = jnp.asarray(IMAGES / 16, jnp.float32), jnp.asarray(LABELS)
    params = [
        jax.random.normal(keys[0], (x.shape[1], HIDDEN)) / 8,
        jax.random.normal(keys[1], (HIDDEN, CLASSES)) / HIDDEN**0.5,
    ]
    optimizer = optax.adam(1e-2)

    def of(params, x, y):
        x, *kernels = (a.astype(jnp.bfloat16) for a in (x, *params))
        z = jnp.matmul(jnp.tanh(x @ kernels[0]), kernels[1], preferred_element_type=logits)
        return sl.masked_mean(loss(z, y).astype(jnp.float32))

    def step(carry, batch):
        params, state = carry
        updates, state = optimizer.update(jax.grad(of)(params, x[batch], y[batch]), state)
        return (optax.apply_updates(params, updates), state), None

    def steps(carry, batches):
        carry, _ = jax.lax.scan(step, carry, batches)
        return carry, of(carry[0], x, y)

    batches = jax.random.randint(keys[2], (STEPS // 100, 100, BATCH), 0, len(LABELS))
    with jax.numpy_dtype_promotion("standard"):  # optax's own
        return np.asarray(jax.jit(lambda: jax.lax.scan(steps, (params, optimizer.init(params)), batches)[1])())


@pytest.mark.parametrize("name", LOSSES)
def test_bfloat16_logits_do_not_drift(name):
    """The logarithm of the loss along 2,000 steps differs from that of the same run with logits in float32 by less than
    two runs of different batches differ."""
    loss = LOSSES[name]
    runs = {seed: np.log(trained(loss, seed, jnp.float32)) for seed in (0, 1)}
    narrow = np.log(trained(loss, 0, jnp.bfloat16))
    noise = np.sqrt(np.mean((runs[0] - runs[1]) ** 2))
    assert np.all(np.isfinite(narrow))
    assert np.sqrt(np.mean((narrow - runs[0]) ** 2)) < noise
    assert narrow[-1] < narrow[0] - 1


def test_a_loss_in_bfloat16_is_seen():
    """optax computes and returns the loss in bfloat16, in which a sure example has none."""
    loss = optax.softmax_cross_entropy_with_integer_labels
    wide, other, narrow = (np.log(trained(loss, *a)) for a in ((0, jnp.float32), (1, jnp.float32), (0, jnp.bfloat16)))
    noise = np.sqrt(np.mean((wide - other) ** 2))
    assert not np.sqrt(np.mean((narrow - wide) ** 2)) < noise
