"""NaN in an unmasked input reaches the output; a masked one never does, in value or gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stablelogits_jax as sl

RNG = np.random.default_rng(1)
X = jnp.asarray(RNG.normal(size=(6, 5)) * 5, jnp.float32)
Y = jnp.asarray(RNG.dirichlet(np.ones(5), 6), jnp.float32)
LABEL = jnp.asarray(RNG.integers(5, size=6))
WHERE = jnp.asarray(RNG.random((6, 5)) < 0.6).at[jnp.arange(6), LABEL].set(True).at[2].set(False)
INTEGER = sl.softmax_cross_entropy_with_integer_labels
CLASS, CUTS = jnp.asarray(RNG.integers(4, size=(6, 5))), jnp.array([-2.0, 0.0, 2.0])
POISON = [np.nan, np.inf, -np.inf, 3e38]

MASKED = {
    "logsumexp": lambda x, where: sl.logsumexp(x, axis=-1, where=where),
    "logsumexp, b": lambda x, where: sl.logsumexp(x, axis=-1, b=Y, where=where),
    "logsumexp, factors": lambda b, where: sl.logsumexp(X, axis=-1, b=jnp.abs(b) + 0.1, where=where),
    "logmeanexp": lambda x, where: sl.logmeanexp(x, axis=-1, where=where),
    "softmax": lambda x, where: sl.softmax(x, where=where),
    "entropy_from_logits": lambda x, where: sl.entropy_from_logits(x, where=where),
    "kl_from_logits, p": lambda x, where: sl.kl_from_logits(x, X, where=where),
    "kl_from_logits, q": lambda x, where: sl.kl_from_logits(X, x, where=where),
    "log_prob_from_logits": lambda x, where: sl.log_prob_from_logits(x, LABEL, where=where),
    "masked_mean": lambda x, where: sl.masked_mean(x, where=where, axis=-1),
    "masked_mean, weights": lambda x, where: sl.masked_mean(x, where=where, weights=Y, axis=-1),
    "sigmoid_binary_cross_entropy": lambda x, where: sl.sigmoid_binary_cross_entropy(x, Y, where=where),
    "sigmoid_binary_cross_entropy, labels": lambda y, where: sl.sigmoid_binary_cross_entropy(X, y, where=where),
    "sigmoid_focal_loss": lambda x, where: sl.sigmoid_focal_loss(x, Y, 0.25, where=where),
    "sigmoid_focal_loss, labels": lambda y, where: sl.sigmoid_focal_loss(X, jnp.abs(y) / 20, where=where),
    "softmax_cross_entropy": lambda x, where: sl.softmax_cross_entropy(x, Y, where=where),
    "softmax_cross_entropy, labels": lambda y, where: sl.softmax_cross_entropy(X, y, where=where),
    "softmax_cross_entropy, options": lambda x, where: sl.softmax_cross_entropy(
        x, Y, where=where, label_smoothing=0.1, weights=Y[0], z_loss=0.1
    ),
    "softmax_cross_entropy_with_integer_labels": lambda x, where: sl.softmax_cross_entropy_with_integer_labels(
        x, LABEL, where=where
    ),
    "softmax_cross_entropy_with_integer_labels, options": lambda x, where: sl.softmax_cross_entropy_with_integer_labels(
        x, LABEL, where=where, label_smoothing=0.1, weights=Y[0], z_loss=0.1
    ),
    "z_loss": lambda x, where: sl.z_loss(x, where=where),
    "softmax_cross_entropy_with_integer_labels, soft_cap": lambda x, where: (
        sl.softmax_cross_entropy_with_integer_labels(x, LABEL, where=where, soft_cap=5.0)
    ),
    "softmax_focal_loss": lambda x, where: sl.softmax_focal_loss(x, Y, where=where, weights=Y[0]),
    "softmax_focal_loss_with_integer_labels": lambda x, where: sl.softmax_focal_loss_with_integer_labels(
        x, LABEL, where=where, label_smoothing=0.1, weights=Y[0]
    ),
    "poly_loss_cross_entropy": lambda x, where: sl.poly_loss_cross_entropy(x, Y, where=where),
    "ordinal_cross_entropy": lambda x, where: sl.ordinal_cross_entropy(x, CLASS, CUTS, where=where),
    "kl_divergence": lambda x, where: sl.kl_divergence(x, Y, where=where),
    "kl_divergence, targets": lambda t, where: sl.kl_divergence(X, jnp.abs(t), where=where),
    "kl_divergence_with_log_targets": lambda x, where: sl.kl_divergence_with_log_targets(x, X / 2, where=where),
    "kl_divergence_with_log_targets, targets": lambda t, where: sl.kl_divergence_with_log_targets(X, t, where=where),
    "generalized_kl_divergence": lambda x, where: sl.generalized_kl_divergence(x, Y, where=where),
    "generalized_kl_divergence, targets": lambda t, where: sl.generalized_kl_divergence(X, jnp.abs(t), where=where),
    "js_divergence": lambda x, where: sl.js_divergence(x, X / 2, where=where, beta=0.25),
    "js_divergence, targets": lambda t, where: sl.js_divergence(X / 2, t, where=where),
    "js_divergence, beta": lambda x, where: jax.grad(
        lambda b: jnp.sum(sl.js_divergence(x, X / 2, where=where, beta=b))
    )(jnp.full(x.shape[:1], 0.25)),
    "distillation_loss": lambda x, where: sl.distillation_loss(x, X / 2, where=where, temperature=2.5),
    "distillation_loss, teacher": lambda t, where: sl.distillation_loss(X / 2, t, where=where, temperature=2.5),
    "logit_matching_loss": lambda x, where: sl.logit_matching_loss(x, X / 2, where=where),
    "logit_matching_loss, teacher": lambda t, where: sl.logit_matching_loss(X / 2, t, where=where),
}


def check_masked(f, poisons=POISON):
    """What a masked entry holds changes neither value, slope nor curvature, and its own slope is 0."""

    def total(x):
        y = f(x, WHERE)
        return jnp.sum(jnp.where(jnp.isfinite(y), y, 0))

    def all_orders(x):
        gradient = jax.grad(total)
        return f(x, WHERE), gradient(x), jax.jvp(gradient, (x,), (jnp.ones_like(x),))[1]

    def forward(x):
        return jax.jvp(lambda x: f(x, WHERE), (x,), (jnp.ones_like(x),))[1]

    clean = jnp.where(WHERE, X, 0.0)
    all_orders, forward = jax.jit(all_orders), jax.jit(forward)
    wanted, pushed = all_orders(clean), forward(clean)
    assert jnp.all(jnp.where(WHERE, 0, wanted[1]) == 0)
    for poison in poisons:
        dirty = jnp.where(WHERE, X, poison)
        for got, want in zip((*all_orders(dirty), forward(dirty)), (*wanted, pushed), strict=True):
            np.testing.assert_array_equal(got, want, err_msg=f"masked {poison}")


def check_nan_reaches(f):
    """A NaN in one example, not masked, makes that example NaN, and no other."""
    everywhere = jnp.ones_like(WHERE)
    bad = f(X.at[1, 3].set(jnp.nan), everywhere)
    examples = bad.reshape(6, -1)
    assert jnp.any(jnp.isnan(examples[1]))
    assert not jnp.any(jnp.isnan(jnp.delete(examples, 1, axis=0)))


@pytest.mark.parametrize("name", MASKED)
def test_masked(name):
    # A share of a masked class is lost like an integer label on one, and the loss +inf: it may be NaN, but not above 0.
    check_masked(MASKED[name], [np.nan, -np.inf] if name == "softmax_cross_entropy, labels" else POISON)


OPTIONS = {
    "pos_weight": lambda w, where: sl.sigmoid_binary_cross_entropy(X, Y, pos_weight=w, where=where),
    "alpha": lambda a, where: sl.sigmoid_focal_loss(X, Y, a, where=where),
    "gamma": lambda g, where: sl.sigmoid_focal_loss(X, Y, gamma=g, where=where),
    "softmax gamma": lambda g, where: sl.softmax_focal_loss(X, Y, gamma=g[:, 0], where=where[:, 0]),
    "epsilon": lambda e, where: sl.poly_loss_cross_entropy(X, Y, e[:, 0], where=where[:, 0]),
    "soft_cap": lambda c, where: sl.softmax_cross_entropy(X, Y, soft_cap=c[:, 0], where=where[:, 0]),
    "temperature": lambda t, where: sl.distillation_loss(X, X / 2, temperature=t[:, 0], where=where[:, 0]),
    "beta": lambda b, where: sl.js_divergence(X, X / 2, beta=b[:, 0], where=where[:, 0]),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_masked_examples_reach_nothing(name):
    good = jnp.full(X.shape, 0.5)
    both = jax.jit(jax.value_and_grad(lambda option: jnp.sum(OPTIONS[name](option, WHERE))))
    got, wanted = both(jnp.where(WHERE, good, jnp.nan)), both(good)
    np.testing.assert_array_equal(got[0], wanted[0])
    np.testing.assert_array_equal(got[1], wanted[1])


@pytest.mark.parametrize("name", MASKED)
def test_nan_reaches(name):
    check_nan_reaches(MASKED[name])


def test_masked_cutpoints_reach_nothing():
    """Those of a masked example, where each has its own; by where and by ignore_index."""
    c = jnp.broadcast_to(CUTS[:, None, None], (3, 6, 5)).transpose(1, 2, 0)
    ignored = jnp.where(WHERE, CLASS, -1)
    for f in (
        lambda x, c: sl.ordinal_cross_entropy(x, CLASS, c, where=WHERE),
        lambda x, c: sl.ordinal_cross_entropy(x, ignored, c, ignore_index=-1),
    ):
        both = jax.value_and_grad(lambda x, c, f=f: jnp.sum(f(x, c)), (0, 1))
        wanted, (of_x, of_c) = both(X, c)
        assert jnp.all(jnp.where(WHERE[..., None], 0, of_c) == 0)
        for poison in POISON:
            got, slopes = both(X, jnp.where(WHERE[..., None], c, poison))
            np.testing.assert_array_equal(got, wanted)
            np.testing.assert_array_equal(slopes[0], of_x)
            np.testing.assert_array_equal(slopes[1], of_c)


def test_log_softmax_of_masked_is_absent():
    """log_softmax has no value for a masked class but -inf, and no slope."""
    y, pullback = jax.vjp(lambda x: sl.log_softmax(x, where=WHERE), jnp.where(WHERE, X, jnp.nan))
    np.testing.assert_array_equal(y == -jnp.inf, ~WHERE)
    (gradient,) = pullback(jnp.where(WHERE, 1.0, 0.0))
    assert jnp.all(jnp.isfinite(gradient))
    assert jnp.all(jnp.where(WHERE, 0, gradient) == 0)


EMPTY = {
    "logsumexp": (-np.inf, lambda x, where: sl.logsumexp(x, axis=-1, where=where)),
    "logmeanexp": (-np.inf, lambda x, where: sl.logmeanexp(x, axis=-1, where=where)),
    "softmax": (0, lambda x, where: sl.softmax(x, where=where)),
    "log_softmax": (-np.inf, lambda x, where: sl.log_softmax(x, where=where)),
    "logsumexp, b": (-np.inf, MASKED["logsumexp, b"]),
    "logsumexp, factors": (-np.inf, MASKED["logsumexp, factors"]),
}
EMPTY |= {name: (0, MASKED[name]) for name in MASKED if name not in EMPTY}


@pytest.mark.parametrize("name", EMPTY)
def test_nothing_left(name):
    """Every class of an example out: the value of the table, and slope 0, whatever the example holds."""
    wanted, f = EMPTY[name]
    for x in (X, jnp.full_like(X, jnp.nan), jnp.full_like(X, -jnp.inf)):
        y, pullback = jax.vjp(lambda x: f(x, jnp.zeros_like(WHERE)), x)
        np.testing.assert_array_equal(y, jnp.full_like(y, wanted))
        np.testing.assert_array_equal(pullback(jnp.ones_like(y))[0], jnp.zeros_like(x))
        pushed = jax.jvp(lambda x: f(x, jnp.zeros_like(WHERE)), (x,), (jnp.ones_like(x),))[1]
        np.testing.assert_array_equal(pushed, jnp.zeros_like(y))


OF_EXAMPLES = ("softmax_", "poly", "z_loss", "entropy", "kl", "log_prob", "generalized", "js", "distill", "logit_match")
LOSSES = [name for name in MASKED if name.startswith(OF_EXAMPLES)]


@pytest.mark.parametrize("name", LOSSES)
def test_a_mask_of_examples(name):
    """`where` without the class axis keeps or drops whole examples, also where it could be taken for classes."""
    f, keep = MASKED[name], jnp.array([True, False, True, True, False, True])
    np.testing.assert_array_equal(f(X, keep), f(X, jnp.broadcast_to(keep[:, None], X.shape)))


def test_a_mask_of_as_many_examples_as_classes():
    x, keep = X[:5], jnp.array([True, False, True, True, False])
    for f in (sl.z_loss, sl.entropy_from_logits):
        np.testing.assert_array_equal(f(x, where=keep), f(x, where=jnp.broadcast_to(keep[:, None], x.shape)))


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.0, jnp.nan, jnp.inf])
@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "softmax_focal_loss"])
def test_a_label_on_a_masked_class_is_lost(loss, smoothing, weight):
    """Whatever its weight, and in all that is differentiated as with shares of the classes."""
    keep, x = jnp.array([True, True, False]), jnp.array([1.0, 2.0, 3.0])

    def value_and_slopes(f, label):
        def of(x, weights, smoothing):
            return f(x, label, where=keep, weights=weights, label_smoothing=smoothing)

        return jax.value_and_grad(of, (0, 1, 2))(x, jnp.array([2.0, 3.0, weight]), smoothing)

    shares = value_and_slopes(getattr(sl, loss), jnp.eye(3)[2])
    integer = value_and_slopes(getattr(sl, f"{loss}_with_integer_labels"), 2)
    assert shares[0] == integer[0] == jnp.inf
    for got, wanted in zip(integer[1], shares[1], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=1e-7)


def test_a_masked_weight_reaches_nothing():
    for weights in (jnp.array([1.0, 2.0, jnp.nan]), jnp.array([1.0, 2.0, jnp.inf])):
        for f, label in ((sl.softmax_cross_entropy, jnp.eye(3)[0]), (INTEGER, 0)):
            options = {"where": jnp.array([True, True, False]), "weights": weights, "label_smoothing": 0.5}
            loss, gradient = jax.value_and_grad(lambda x, f=f, y=label, o=options: f(x, y, **o))(jnp.zeros(3))
            np.testing.assert_allclose(loss, 1.25 * np.log(2.0), rtol=1e-6)
            np.testing.assert_allclose(gradient, [-0.125, 0.125, 0], rtol=1e-6)


def test_an_infinite_weight_of_another_class_reaches_nothing():
    weights = jnp.array([2.0, 1.0, jnp.inf])
    for f, label in ((sl.softmax_cross_entropy, jnp.eye(3)[0]), (INTEGER, 0)):
        loss, slopes = jax.value_and_grad(lambda x, w, f=f, y=label: f(x, y, weights=w), (0, 1))(jnp.zeros(3), weights)
        np.testing.assert_allclose(loss, 2 * np.log(3.0), rtol=1e-6)
        np.testing.assert_allclose(slopes[0], [-4 / 3, 2 / 3, 2 / 3], rtol=1e-6)
        np.testing.assert_allclose(slopes[1], [np.log(3.0), 0, 0], rtol=1e-6)
        smoothed = jax.jit(lambda s, f=f, y=label: f(jnp.zeros(3), y, weights=weights, label_smoothing=s))
        np.testing.assert_allclose(smoothed(0.0), loss, rtol=1e-6)
        assert smoothed(0.1) == jnp.inf


@pytest.mark.parametrize("name", [name for name in MASKED if "labels" not in name])
def test_a_mask_that_broadcasts(name):
    """With all its axes, `where` broadcasts to the logits: one row for all examples, or one entry for all classes."""
    f = MASKED[name]
    for where in (WHERE[:1], WHERE[:, :1], jnp.array([[True]])):
        np.testing.assert_array_equal(f(X, where), f(X, jnp.broadcast_to(where, X.shape)))


def test_masked_mean_of_nothing():
    """0 with zero gradient, also under a loss that is itself NaN."""
    loss = jnp.array([jnp.nan, jnp.inf, 1.0])
    for where in (jnp.zeros(3, bool), False):
        value, gradient = jax.value_and_grad(lambda x, where=where: sl.masked_mean(x, where=where))(loss)
        assert value == 0
        np.testing.assert_array_equal(gradient, jnp.zeros(3))
    value, gradient = jax.value_and_grad(lambda x: sl.masked_mean(x, weights=jnp.zeros(3)))(jnp.array([1.0, 2.0, 3.0]))
    assert value == 0
    np.testing.assert_array_equal(gradient, jnp.zeros(3))
