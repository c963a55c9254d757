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
