"""Second derivatives where a class has no share or no loss: both orders, in both modes, are one number, and not NaN."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stablelogits_jax as sl

LOWEST = float(jnp.finfo(jnp.float32).min)
FIRST = jnp.array([1.0, 0.0])
MODES = tuple(product((jax.jacfwd, jax.jacrev), repeat=2))


def second(f, i, j, args):
    """In the i-th and the j-th argument, by each pair of modes and both orders, the first argument's axis first."""
    for outer, inner in MODES:
        yield np.asarray(outer(inner(f, i), j)(*args))
        yield np.asarray(outer(inner(f, j), i)(*args)).T


def focal(x, gamma):
    return sl.softmax_focal_loss(x, FIRST, gamma=gamma)


def smoothed_focal(x, gamma):
    return sl.softmax_focal_loss_with_integer_labels(x, 0, gamma=gamma, label_smoothing=0.1)


@pytest.mark.parametrize("loss", [focal, smoothed_focal])
@pytest.mark.parametrize("x", [[88.0, 0.0], [-90.0, 0.0], [200.0, 0.0]])
def test_focal_of_a_sure_class_in_its_exponent(loss, x):
    """At gamma 0 the slope in gamma is log(1 - p) s, which is 0, and does not move, where s = 0 or p = 0."""
    for got in second(loss, 0, 1, (jnp.array(x), 0.0)):
        np.testing.assert_allclose(got, 0, atol=1e-30)
    for got in second(loss, 1, 1, (jnp.array(x), 0.0)):
        np.testing.assert_allclose(got, 0, atol=1e-30)


@pytest.mark.parametrize("lowest", [LOWEST, LOWEST / 2, -1e38, -1e30])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("both", [True, False])
def test_distillation_with_a_class_at_the_lowest_number(lowest, temperature, both):
    """As with one of -inf."""
    x, t = jnp.array([5.0, 1.0, 2.0]), jnp.array([0.0, 0.0, 3.0])

    def loss(temperature, masked):
        student = x.at[0].set(masked) if both else x
        return sl.distillation_loss(student, t.at[0].set(masked), temperature=temperature)

    wanted = jax.hessian(lambda temperature: loss(temperature, -jnp.inf))(temperature)
    for got in second(lambda temperature: loss(temperature, lowest), 0, 0, (temperature,)):
        np.testing.assert_allclose(got, wanted, rtol=1e-4)


@pytest.mark.parametrize(("lowest", "temperature"), [(-1e38, 0.5), (-1e35, 1e-3), (-1e30, 1e-5), (-1e20, 1e-10)])
def test_distillation_does_not_move_a_class_without_a_share(lowest, temperature):
    def slope(temperature, masked):
        loss = lambda t: sl.distillation_loss(jnp.zeros(3), t, temperature=temperature)  # noqa: E731
        return jax.grad(loss)(jnp.array([masked, 1.0, 2.0]))

    got, wanted = (jax.jacfwd(slope)(temperature, masked) for masked in (lowest, -jnp.inf))
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 1e-4])
def test_z_loss_of_a_row_without_classes(weight):
    """A row that is all -inf has no slope, whatever its z-loss is multiplied by."""

    def sparse(x, z):
        return sl.softmax_cross_entropy_with_integer_labels(x, 0, z_loss=z)

    def dense(x, z):
        return sl.softmax_cross_entropy(x, jnp.array([1.0, 0.0, 0.0]), z_loss=z)

    for loss in (sparse, dense):
        x = jnp.full(3, -jnp.inf)
        assert np.all(jax.grad(lambda x, f=loss: jax.grad(f, 1)(x, weight))(x) == 0)
        assert np.all(jax.jacrev(lambda z, x=x, f=loss: jax.grad(f)(x, z))(weight) == 0)


@pytest.mark.parametrize("alpha", [1.0, 0.75])
@pytest.mark.parametrize("x", [-80.0, -40.0, 3.0])
def test_sigmoid_focal_of_a_class_without_weight_in_its_label(x, alpha):
    """At label 0 and alpha 1 what the loss is multiplied by is 0, and moves with the label: for alpha 1 the loss is
    y (1 - p)^gamma c, and in y twice the slope of the rest."""

    def loss(y, alpha):
        return sl.sigmoid_focal_loss(x, y, alpha=alpha, gamma=0.5)

    s, c = sl.sigmoid(x), sl.softplus(x)
    in_label = -x * jnp.sqrt(s) + 0.5 * (1 - 2 * s) * (c / jnp.sqrt(s))
    if alpha == 1:
        for got in second(loss, 0, 0, (0.0, alpha)):
            np.testing.assert_allclose(got, 2 * in_label, rtol=1e-5)
    for got in second(loss, 0, 1, (0.0, alpha)):
        np.testing.assert_allclose(got, 2 * jnp.sqrt(s) * c - in_label, rtol=1e-5)


@pytest.mark.parametrize(("x", "gamma"), [(60.0, 0.5), (40.0, 0.25), (80.0, 1.5), (20.0, 0.5)])
def test_sigmoid_focal_of_a_sure_label_in_its_label(x, gamma):
    """2 gamma x m^(gamma - 1) + gamma (gamma - 1) m^(gamma - 2) c, whose power overflows beside c = m = exp(-x)."""
    wanted = gamma * (2 * x + gamma - 1) * np.exp((1 - gamma) * x)
    for got in second(lambda y: sl.sigmoid_focal_loss(x, y, gamma=gamma), 0, 0, (1.0,)):
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_js_in_its_weight_and_a_rare_target():
    """-p (log(m / p) + b (p - q) / m), where b p is subnormal: the second term is as large as the first."""
    weight, log_p, log_q = 1e-8, -71.5, -86.0
    p, q = np.exp([log_p, log_q])
    m = weight * p + (1 - weight) * q
    wanted = -p * (np.log(m / p) + weight * (p - q) / m)
    assert weight * p < jnp.finfo(jnp.float32).tiny
    for got in second(lambda b, t: sl.js_divergence(jnp.array([log_q]), t[None], beta=b), 0, 1, (weight, log_p)):
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_js_of_an_absent_class_in_its_weight(weight):
    """It stays absent: its slope does not move with the weight. Through softmax, in logits, none is NaN."""
    absent, other = jnp.array([-jnp.inf, 0.0]), jnp.array([-1.0, -0.46])
    for log_q, log_t, i in ((absent, other, 1), (other, absent, 2)):
        f = lambda b, q, t: sl.js_divergence(q, t, beta=b)  # noqa: E731
        wanted = np.asarray(jax.jacfwd(jax.grad(f), i)(weight, log_q, log_t))
        assert wanted[0] == 0
        assert np.isfinite(wanted[1])
        for got in second(f, 0, i, (weight, log_q, log_t)):
            np.testing.assert_allclose(got, wanted, rtol=1e-6)

    def of_logits(b, x, t):
        return sl.js_divergence(sl.log_softmax(x), sl.log_softmax(t), beta=b)

    x, t = jnp.array([1.0, 2.0, -jnp.inf]), jnp.array([0.5, 0.0, 1.0])
    for hessian in second(of_logits, 0, 1, (weight, x, t)), second(of_logits, 0, 2, (weight, t, x)):
        numbers = np.stack(list(hessian))
        assert np.all(np.isfinite(numbers))
        np.testing.assert_allclose(numbers, numbers[:1].repeat(len(numbers), 0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("x", [40.0, 100.0, 1000.0])
def test_sigmoid_focal_at_gamma_0_in_its_label(x):
    """Of the cross entropy, that is linear in the label, times a weight that is, too: 2 (2 alpha - 1) times -x."""
    for got in second(lambda y: sl.sigmoid_focal_loss(x, y, alpha=0.25, gamma=0.0), 0, 0, (1.0,)):
        np.testing.assert_allclose(got, x, rtol=1e-6)
