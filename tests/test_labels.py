"""Integer labels: out of range NaN, `ignore_index` 0, every integer type, several class axes."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stablelogits_jax as sl

RNG = np.random.default_rng(2)
X = jnp.asarray(RNG.normal(size=(8, 4)) * 3, jnp.float32)

FUNCTIONS = {
    "log_prob_from_logits": sl.log_prob_from_logits,
    "plain": sl.softmax_cross_entropy_with_integer_labels,
    "ignore_index": lambda x, y: sl.softmax_cross_entropy_with_integer_labels(x, y, ignore_index=-100),
    "label_smoothing": lambda x, y: sl.softmax_cross_entropy_with_integer_labels(x, y, label_smoothing=0.1),
    "weights": lambda x, y: sl.softmax_cross_entropy_with_integer_labels(x, y, weights=jnp.array([1.0, 2.0, 0.5, 0.0])),
    "z_loss": lambda x, y: sl.softmax_cross_entropy_with_integer_labels(x, y, z_loss=0.1),
    "where": lambda x, y: sl.softmax_cross_entropy_with_integer_labels(x, y, where=jnp.ones_like(x, bool)),
}


@pytest.mark.parametrize("run", [lambda f: f, jax.jit, jax.vmap], ids=["eager", "jit", "vmap"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_out_of_range(name, run):
    """NaN in value and slope, in both modes; the examples beside it are what they are without it."""
    f = run(FUNCTIONS[name])
    good = jnp.array([0, 1, 2, 3, 0, 1, 2, 3])
    bad = jnp.array([0, 4, 2, -1, 5, 1, 2**31 - 1, -(2**31)])
    wrong = jnp.array([False, True, False, True, True, False, True, True])
    y, pullback = jax.vjp(lambda x: f(x, bad), X)
    gradient = pullback(jnp.ones_like(y))[0]
    pushed = jax.jvp(lambda x: f(x, bad), (X,), (jnp.ones_like(X),))[1]
    np.testing.assert_array_equal(jnp.isnan(y), wrong)
    np.testing.assert_array_equal(jnp.isnan(pushed), wrong)
    np.testing.assert_array_equal(jnp.isnan(gradient), jnp.broadcast_to(wrong[:, None], X.shape))
    wanted, pullback = jax.vjp(lambda x: f(x, good), X)
    np.testing.assert_array_equal(jnp.where(wrong, 0, y), jnp.where(wrong, 0, wanted))
    others = pullback(jnp.ones_like(wanted))[0]
    np.testing.assert_array_equal(jnp.where(wrong[:, None], 0, gradient), jnp.where(wrong[:, None], 0, others))


@pytest.mark.parametrize("index", [-100, -1, 0, 4, 1000])
def test_ignored(index):
    """0 in value, slope and curvature, whatever the logits hold; an ignored class in range is ignored too."""
    labels = jnp.array([index, 1, index, 2, index, 3, index, 1])
    held = X.at[0].set(jnp.nan).at[2].set(-jnp.inf).at[4].set(jnp.inf).at[6, 0].set(jnp.nan)

    def f(x):
        return sl.softmax_cross_entropy_with_integer_labels(
            x, labels, ignore_index=index, label_smoothing=0.1, weights=jnp.ones(4), z_loss=0.1
        )

    for order in (f, jax.grad(lambda x: f(x).sum()), lambda x: jax.jvp(jax.grad(lambda x: f(x).sum()), (x,), (X,))[1]):
        got = order(held)
        assert jnp.all(got[::2] == 0)
        assert jnp.all(jnp.isfinite(got[1::2]))
        assert jnp.all(got[1::2] != 0)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "int32", "uint32"])
def test_ignored_at_the_ends_of_a_type(kind):
    """The largest and the smallest number of the labels' type are ignored; others are refused, in every loss."""
    hidden, kernel = jnp.ones((8, 2)), jnp.ones((2, 4))
    losses = (
        lambda y, i: sl.softmax_cross_entropy_with_integer_labels(X, y, ignore_index=i),
        lambda y, i: sl.ordinal_cross_entropy(X[:, 0], y, jnp.arange(3.0), ignore_index=i),
        lambda y, i: sl.linear_softmax_cross_entropy(hidden, kernel, y, ignore_index=i),
    )
    ends = np.iinfo(kind)
    for f, index in product(losses, (ends.max, ends.min)):
        labels = np.array([1, index, 2, 3, index, 2, 3, 1], kind)
        for given in (int(index), np.asarray(index, kind)):
            np.testing.assert_array_equal(f(labels, given) == 0, labels == index)
        for beyond in (ends.max + 1, ends.min - 1):
            with pytest.raises(ValueError, match="ignore_index"):
                f(labels, int(beyond))


@pytest.mark.parametrize("label", [1 << 32, (1 << 32) + 1, (1 << 32) - 1, -(1 << 32)])
def test_labels_of_64_bits_do_not_wrap(label):
    """Of NumPy's, JAX keeps the last 32 bits."""
    labels = np.array([1, label], np.int64)
    loss = sl.softmax_cross_entropy_with_integer_labels(X[:2], labels, ignore_index=-1)
    np.testing.assert_array_equal(np.isnan(loss), [False, True])
    assert np.isnan(sl.ordinal_cross_entropy(X[0, 0], labels[1], jnp.arange(3.0)))


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "int32", "uint32"])
def test_integer_types(kind):
    labels = jnp.array([0, 1, 2, 3, 0, 1, 2, 3])
    for name, f in FUNCTIONS.items():
        if kind.startswith("int") or name != "ignore_index":  # -100, which no unsigned label is
            np.testing.assert_array_equal(f(X, labels.astype(kind)), f(X, labels))


def test_numbers_of_a_thousand_classes_in_small_integers():
    """A label that its type cannot tell from n: int8 and 200 classes."""
    x = jnp.asarray(RNG.normal(size=(2, 200)), jnp.float32)
    y = sl.softmax_cross_entropy_with_integer_labels(x, jnp.array([127, -1], jnp.int8))
    np.testing.assert_allclose(y[0], jax.nn.logsumexp(x[0]) - x[0, 127], rtol=1e-6)
    assert jnp.isnan(y[1])


def test_several_class_axes():
    """A label counts through the class axes in the order given, last fastest."""
    x = jnp.asarray(RNG.normal(size=(2, 3, 4)), jnp.float32)
    label = jnp.array([7, 11])
    got = sl.softmax_cross_entropy_with_integer_labels(x, label, axis=(1, 2))
    np.testing.assert_allclose(got, sl.softmax_cross_entropy_with_integer_labels(x.reshape(2, 12), label), rtol=1e-6)
    got = sl.softmax_cross_entropy_with_integer_labels(x, label, axis=(2, 1))
    turned = jnp.swapaxes(x, 1, 2).reshape(2, 12)
    np.testing.assert_allclose(got, sl.softmax_cross_entropy_with_integer_labels(turned, label), rtol=1e-6)


def test_first_axis():
    label = jnp.array([1, 7, 3, 0])
    got = sl.softmax_cross_entropy_with_integer_labels(X, label, axis=0)
    np.testing.assert_allclose(got, sl.softmax_cross_entropy_with_integer_labels(X.T, label), rtol=1e-6)


def test_a_number_is_a_row_of_one_class():
    """Of all axes there are none, in either form."""
    for loss, label in ((sl.softmax_cross_entropy, 1.0), (sl.softmax_cross_entropy_with_integer_labels, 0)):
        assert loss(5.0, label, axis=None) == 0
    assert sl.softmax_focal_loss_with_integer_labels(5.0, 0, axis=None) == 0


def test_masked_label():
    """A label whose class is masked is absent: +inf with the slope of the others."""
    where = jnp.array([True, False, True, True])
    f = lambda x: sl.softmax_cross_entropy_with_integer_labels(x, jnp.array(1), where=where)  # noqa: E731
    value, gradient = jax.value_and_grad(f)(jnp.zeros(4))
    assert value == jnp.inf
    assert jnp.all(jnp.isfinite(gradient))
