"""What a rounded 1 - p, a sum of weights or a difference of terms would lose, against the oracle's numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import exp, log, mp, mpf

import stablelogits_jax as sl


def exactly(f):
    with mp.workdps(60):
        return float(f())


@pytest.mark.parametrize("dtype", ["float32", "float64"], indirect=True)
@pytest.mark.parametrize(
    ("x", "gamma"),
    [([-8.0, 0.0], 1e3), ([-8.0, 0.0], 50.0), ([-8.0, 0.0], 1e5), ([-20.0, -200.0, 0.0], 1e10), ([1.0, 0.5], 0.7)],
)
def test_a_large_focusing_exponent(x, gamma, dtype):
    """gamma times what log(1 - p) is off would be off."""

    def truth():
        p = exp(mpf(x[0])) / sum(exp(mpf(a)) for a in x)
        return (1 - p) ** mpf(gamma) * -log(p)

    rtol = 8 * float(jnp.finfo(dtype).eps) * max(1, -np.log(exactly(truth)))  # an exponential's is its argument
    logits, traced = jnp.array(x, dtype), jnp.asarray(gamma, dtype)
    dense = sl.softmax_focal_loss(logits, jnp.eye(len(x), dtype=dtype)[0], gamma=traced)
    sparse = sl.softmax_focal_loss_with_integer_labels(logits, 0, gamma=traced)
    np.testing.assert_allclose([dense, sparse], exactly(truth), rtol=rtol)


@pytest.mark.parametrize(
    ("x", "y", "gamma"), [(30.0, 1e-9, 2.0), (30.0, 1e-7, 2.0), (17.0, 1e-6, 2.0), (30.0, 1e-7, 1e6)]
)
def test_a_small_share_in_the_exponent(x, y, gamma):
    """The logarithm of 1 - p_y, which the slope in gamma has, is about -y."""

    def truth(order):
        share = mpf(float(np.float32(y)))
        p = 1 / (1 + exp(-mpf(x)))
        miss = p + share - 2 * p * share
        loss = -(share * log(p) + (1 - share) * log(1 - p)) * miss**gamma
        return loss * log(miss) ** order

    got = jax.value_and_grad(lambda gamma: sl.sigmoid_focal_loss(x, y, gamma=gamma))(gamma)
    np.testing.assert_allclose(got, [exactly(lambda order=order: truth(order)) for order in (0, 1)], rtol=3e-6)


@pytest.mark.parametrize("weight", [0.0, 1e-9, 1e-6, 1e-3, 1.0, 1e6])
@pytest.mark.parametrize("x", [-30.0, -5.0, 0.0, 5.0, 30.0])
def test_a_small_weight_in_the_label(x, weight):
    """w softplus(-x) - softplus(x), and what it is in x; the smoothing moves a label of 1 by half of it."""

    def truth():
        return mpf(float(np.float32(weight))) * log(1 + exp(-mpf(x))) - log(1 + exp(mpf(x)))

    def loss(x, y, s):
        return sl.sigmoid_binary_cross_entropy(x, y, pos_weight=weight, label_smoothing=s)

    np.testing.assert_allclose(jax.grad(loss, 1)(x, 0.5, 0.0), exactly(truth), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(loss, 2)(x, 1.0, 0.0), -exactly(truth) / 2, rtol=1e-6)
    mixed = jax.grad(jax.grad(loss, 1))(x, 0.5, 0.0)
    np.testing.assert_allclose(mixed, -weight * sl.sigmoid(-x) - sl.sigmoid(x), rtol=1e-6)


@pytest.mark.parametrize("size", [1e-37, 1e-20, 1e-8, 1.0, 1e20, 3e38])
def test_weights_of_any_size(size):
    """A mean does not change with the unit of its weights, and its slopes in them are in one over the unit."""
    loss, weights = jnp.array([0.0, 1.0, 5.0]), jnp.array([0.25, 0.5, 1.0])

    def mean(loss, weights):
        return sl.masked_mean(loss, weights=weights)

    of_one, of_size = (jax.value_and_grad(mean, (0, 1))(loss, weights * unit) for unit in (1.0, size))
    np.testing.assert_allclose(of_size[0], of_one[0], rtol=1e-6)
    np.testing.assert_allclose(of_size[1][0], of_one[1][0], rtol=1e-6)
    if 1e-37 < size < 1e37:
        np.testing.assert_allclose(of_size[1][1] * size, of_one[1][1], rtol=1e-5)
    if 1e-15 < size < 1e15:
        bend = jax.hessian(mean, 1)(loss, weights * size) * size * size
        np.testing.assert_allclose(bend, jax.hessian(mean, 1)(loss, weights), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("x", "y"), [(-86.0, -87.4), (-80.0, -87.4), (80.0, 87.4), (-70.0, -87.3), (-87.0, -80.0)])
def test_two_rare_answers(x, y):
    """q is near the smallest number or below it, and the divergence is not."""
    x, y = np.float32(x), np.float32(y)

    def truth():
        p, q = (1 / (1 + exp(-mpf(float(a)))) for a in (x, y))
        return p * log(p / q) + (1 - p) * log((1 - p) / (1 - q))

    with mp.workdps(200):
        wanted = float(truth())
    np.testing.assert_allclose(jax.jit(sl.bernoulli_kl_from_logits)(x, y), wanted, rtol=6e-7)


@pytest.mark.parametrize(("n", "far"), [(10, 1e6), (1000, 1e6), (1000, 100.0), (3000, 1e6)])
def test_a_teacher_whose_top_is_far_from_the_others(n, far):
    """Its top has a small share, and the student's logit of it is far off: the slope is right, whatever is beside."""
    t = np.zeros(n, np.float32)
    t[0], x = 1e-3, (far + np.random.default_rng(0).normal(size=n)).astype(np.float32)
    x[0] = 0
    p = np.exp(t.astype(np.float64))
    p, d = p / p.sum(), x.astype(np.float64) - t
    centred = d - np.mean(d[1:])
    wanted = -p * (centred - np.sum(p * centred))
    scale = p * np.array([np.sum(p * np.abs(centred - c)) for c in centred])
    alone = jax.jit(jax.grad(lambda t: sl.distillation_loss(x, t)))(t)
    assert np.all(np.abs(alone - wanted) <= 12 * 2.0**-24 * scale)

    students = np.stack([x, np.where(np.arange(n) == 1, -np.inf, x)])
    both = jax.jit(jax.grad(lambda t: jnp.sum(sl.distillation_loss(students, t))))(np.stack([t, t]))
    np.testing.assert_array_equal(both[0], alone)
    assert np.isinf(both[1]).all()
