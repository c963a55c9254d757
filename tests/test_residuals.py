"""What the backward pass keeps: the logits and the labels, and no other array of the logits' size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stablelogits_jax as sl

N, K = 128, 96
RNG = np.random.default_rng(4)
X = jnp.asarray(RNG.normal(size=(N, K)), jnp.float32)
Y = jnp.asarray(RNG.dirichlet(np.ones(K), N), jnp.float32)
LABEL = jnp.asarray(RNG.integers(K, size=N))
WHERE = jnp.asarray(RNG.random((N, K)) < 0.7).at[jnp.arange(N), LABEL].set(True)

# Of each function of the logits, how many arrays of their size the gradient may keep: of numbers, the logits among them
# (or the masked logits in their place), and of booleans.
KEPT = {
    "kl_divergence": (lambda x: sl.kl_divergence(x, Y), 2, 0),
    "kl_divergence, where": (lambda x: sl.kl_divergence(x, Y, where=WHERE), 2, 1),
    "kl_divergence_with_log_targets": (lambda x: sl.kl_divergence_with_log_targets(x, Y), 2, 0),
    "generalized_kl_divergence": (lambda x: sl.generalized_kl_divergence(x, Y), 2, 0),
    "js_divergence": (lambda x: sl.js_divergence(x, Y, beta=0.25), 2, 0),
    "bernoulli_kl_from_logits": (lambda x: sl.bernoulli_kl_from_logits(x, Y), 2, 0),
    "distillation_loss": (lambda x: sl.distillation_loss(x, Y, temperature=2.5), 2, 0),
    "distillation_loss, where": (lambda x: sl.distillation_loss(x, Y, where=WHERE), 2, 1),
    "logit_matching_loss": (lambda x: sl.logit_matching_loss(x, Y), 2, 0),
    "logsumexp": (lambda x: sl.logsumexp(x, axis=-1), 1, 0),
    "softmax": (sl.softmax, 1, 0),
    "log_softmax": (sl.log_softmax, 1, 0),
    "log_prob_from_logits": (lambda x: sl.log_prob_from_logits(x, LABEL), 1, 0),
    "z_loss": (sl.z_loss, 1, 0),
    "sigmoid_binary_cross_entropy": (lambda x: sl.sigmoid_binary_cross_entropy(x, Y), 2, 0),  # with the labels
    "sigmoid_binary_cross_entropy, where": (lambda x: sl.sigmoid_binary_cross_entropy(x, Y, where=WHERE), 2, 1),
    "sigmoid_focal_loss": (lambda x: sl.sigmoid_focal_loss(x, Y), 2, 0),
    "sigmoid_focal_loss, alpha": (lambda x: sl.sigmoid_focal_loss(x, Y, alpha=0.25), 2, 0),
    "logsumexp, b": (lambda x: sl.logsumexp(x, axis=-1, b=Y), 2, 0),
    "softmax_cross_entropy": (lambda x: sl.softmax_cross_entropy(x, Y), 2, 0),
    "softmax_cross_entropy, soft_cap": (lambda x: sl.softmax_cross_entropy(x, Y, soft_cap=30.0), 2, 0),
    "softmax_focal_loss": (lambda x: sl.softmax_focal_loss(x, Y), 2, 0),
    "softmax_focal_loss_with_integer_labels": (lambda x: sl.softmax_focal_loss_with_integer_labels(x, LABEL), 1, 0),
    "softmax_focal_loss_with_integer_labels, options": (
        lambda x: sl.softmax_focal_loss_with_integer_labels(x, LABEL, label_smoothing=0.1, weights=Y[0]),
        1,
        0,
    ),
    "poly_loss_cross_entropy": (lambda x: sl.poly_loss_cross_entropy(x, Y), 2, 0),
    "softmax_cross_entropy, where": (lambda x: sl.softmax_cross_entropy(x, Y, where=WHERE), 2, 1),
    "softmax_cross_entropy, options": (
        lambda x: sl.softmax_cross_entropy(x, Y, label_smoothing=0.1, weights=Y[0], z_loss=0.1),
        2,
        0,
    ),
    "softmax_cross_entropy_with_integer_labels": (
        lambda x: sl.softmax_cross_entropy_with_integer_labels(x, LABEL),
        1,
        0,
    ),
    "softmax_cross_entropy_with_integer_labels, where": (
        lambda x: sl.softmax_cross_entropy_with_integer_labels(x, LABEL, where=WHERE),
        1,
        1,
    ),
    "softmax_cross_entropy_with_integer_labels, ignore_index": (
        lambda x: sl.softmax_cross_entropy_with_integer_labels(x, LABEL, ignore_index=0),
        1,
        0,
    ),
    "softmax_cross_entropy_with_integer_labels, options": (
        lambda x: sl.softmax_cross_entropy_with_integer_labels(x, LABEL, label_smoothing=0.1, weights=Y[0], z_loss=0.1),
        1,
        0,
    ),
    "bradley_terry_loss": (lambda c: sl.bradley_terry_loss(c, Y), 2, 0),
    "simpo_loss": (lambda c: sl.simpo_loss(c, Y, label_smoothing=0.1), 2, 0),
    "orpo_loss": (lambda c: sl.orpo_loss(c - 10, -Y), 2, 0),
    "dpo_loss": (lambda c: sl.dpo_loss(c, Y, X, X, label_smoothing=0.1), 4, 0),
    "ipo_loss": (lambda c: sl.ipo_loss(c, Y, X, X), 4, 0),
    "kto_loss": (lambda p: sl.kto_loss(p, Y, WHERE, desirable_weight=2.0), 2, 1),
}


def kept(f, x):
    """The distinct arrays of the logits' size that the pullback holds."""
    leaves = jax.tree.leaves(jax.vjp(f, x)[1])
    arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array) and leaf.size == x.size]
    return list({array.unsafe_buffer_pointer(): array for array in arrays}.values())


def check_residuals(f, numbers, booleans):
    arrays = kept(f, X)
    masks = [a for a in arrays if a.dtype == bool]
    counted = f"keeps {[f'{a.dtype}{list(a.shape)}' for a in arrays]}"
    assert len(arrays) - len(masks) <= numbers, counted
    assert len(masks) <= booleans, counted


@pytest.mark.parametrize("run", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("name", KEPT)
def test_residuals(name, run):
    f, numbers, booleans = KEPT[name]
    check_residuals(run(f), numbers, booleans)


def test_sixteen_bits_are_kept_in_sixteen():
    """The gradient of a bfloat16 loss keeps bfloat16, not a float32 copy of twice the size."""
    x = X.astype(jnp.bfloat16)
    for f in (sl.softmax_cross_entropy_with_integer_labels, sl.log_prob_from_logits):
        assert [a.dtype for a in kept(lambda x, f=f: f(x, LABEL), x)] == [jnp.bfloat16]
    assert [a.dtype for a in kept(sl.log_softmax, x)] == [jnp.bfloat16]


def test_the_count_can_see():
    """A loss that keeps its softmax is counted."""
    with pytest.raises(AssertionError, match=r"float32\[128, 96\]"):
        check_residuals(lambda x: -jnp.log(jnp.sum(jax.nn.softmax(x) * Y, axis=-1)), 1, 0)
