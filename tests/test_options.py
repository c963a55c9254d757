"""Numeric options are arguments like any other: they may be traced, batched and differentiated."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import assert_close
from options import LOGITS, OPTIONS, SHARES

import stablelogits_jax as sl
from stablelogits_jax.verify._oracle import derivatives

NOT_NUMERIC = {
    *("axis", "axis_name", "ignore_index", "keepdims", "memory_limit", "return_sign", "robust", "targets"),
    *("vocab_axis", "where"),
}


def test_every_option_is_here():
    functions = {f.__name__: f for f in (getattr(sl, name) for name in sl.__all__)}  # without their second names
    for name, f in functions.items():
        for parameter in inspect.signature(f).parameters.values():
            if parameter.default is not parameter.empty and parameter.name not in NOT_NUMERIC:
                assert f"{name}, {parameter.name}" in OPTIONS


def _array(value):
    return jnp.asarray(value) if isinstance(value, int) else jnp.asarray(value, jnp.float32)


@pytest.mark.parametrize("name", OPTIONS)
def test_traced_and_differentiated(name):
    """Value, slope and curvature in the option, and the curvature in it and the first argument, against the oracle."""
    call, formula, before, option = OPTIONS[name]
    last = len(before)
    args = [_array(a) for a in (*before, option)]
    value, slope, curvature = derivatives(formula, [*before, option], (0, last), 2, 149)
    outputs = value.shape
    size = np.size(before[0])

    assert_close(np.ravel(jax.jit(call)(*args)), value, 8, name)
    for jacobian in (jax.jacfwd, jax.jacrev):
        got = jax.jit(jacobian(call, argnums=last))(*args)
        assert_close(np.reshape(got, (*outputs, -1)), slope[:, size:], 16, name, 0.5)
    mixed, twice = jax.jit(jax.jacfwd(jax.jacrev(call, argnums=(0, last)), argnums=last))(*args)
    assert_close(np.reshape(mixed, (*outputs, size, -1)), curvature[:, :size, size:], 16, name, 0.5)
    assert_close(
        np.reshape(twice, (*outputs, *curvature[0, size:, size:].shape)), curvature[:, size:, size:], 16, name, 0.5
    )


@pytest.mark.parametrize("name", OPTIONS)
def test_static_and_traced_agree(name):
    call, _, before, option = OPTIONS[name]
    if isinstance(option, list):
        option = np.asarray(option, np.float32)
    args = [_array(a) for a in before]
    static = jax.jit(lambda *a: call(*a, option))(*args)
    np.testing.assert_allclose(jax.jit(call)(*args, _array(option)), static, rtol=3e-7)


@pytest.mark.parametrize("name", OPTIONS)
def test_batched(name):
    call, _, before, option = OPTIONS[name]
    args = [_array(a) for a in before]
    several = jnp.stack([_array(option), _array(option) / 2])
    got, one = jax.jit(jax.vmap(lambda o: call(*args, o)))(several), jax.jit(lambda o: call(*args, o))
    for i in range(2):
        np.testing.assert_allclose(got[i], one(several[i]), rtol=1e-6)


def test_a_traced_option_of_zero_is_the_plain_loss():
    x, y = jnp.asarray(LOGITS), jnp.asarray(SHARES)
    for f, options in (
        (sl.softmax_cross_entropy, ("label_smoothing", "z_loss")),
        (sl.sigmoid_binary_cross_entropy, ("label_smoothing",)),
    ):
        for option in options:
            got = jax.jit(lambda o, f=f, option=option: f(x, y, **{option: o}))(jnp.float32(0))
            np.testing.assert_array_equal(got, f(x, y))


def test_an_option_of_zero_costs_nothing_at_infinity():
    """0 times an infinite smoothing or z term is 0: an absent class stays absent, also under a traced zero."""
    x = jnp.array([0.0, -jnp.inf, 0.0])
    f = sl.softmax_cross_entropy_with_integer_labels
    for zero in (0.0, jnp.float32(0)):
        got, slope = jax.value_and_grad(lambda x, zero=zero: f(x, jnp.array(0), label_smoothing=zero, z_loss=zero))(x)
        np.testing.assert_allclose(got, np.log(2), rtol=1e-6)
        np.testing.assert_allclose(slope, [-0.5, 0, 0.5], rtol=1e-6)


def test_a_traced_smoothing_of_zero_costs_nothing_at_an_infinite_lead():
    """softplus(-z) + s z at z = +inf: value and slopes, in beta too, are 0 for s = 0, and those of s for s > 0."""
    answers = [jnp.float32(a) for a in (-1, -jnp.inf, -1, -1)]
    for robust in (False, True):
        f = jax.jit(jax.value_and_grad(lambda c, b, s, r=robust: _dpo(c, answers, b, s, r), (0, 1)))
        loss, slopes = f(answers[0], jnp.float32(0.5), jnp.float32(0))
        np.testing.assert_array_equal([loss, *slopes], [0, 0, 0])
        loss, slopes = f(answers[0], jnp.float32(0.5), jnp.float32(0.25))
        sign, tilt = (-1, -0.5) if robust else (1, 0.25)
        np.testing.assert_array_equal([loss, *slopes], [sign * jnp.inf, 0.5 * tilt, sign * jnp.inf])


def _dpo(chosen, answers, beta, smoothing, robust):
    return sl.dpo_loss(chosen, *answers[1:], beta=beta, label_smoothing=smoothing, robust=robust)


def test_a_weight_of_zero_costs_nothing_at_infinity():
    """beta = 0 is log 2 at any lead; an odds ratio of weight 0 is none, also where the rejected answer is certain."""
    zero, inf = jnp.float32(0), jnp.inf
    for f, args, loss, slopes in (
        (sl.simpo_loss, (-1.0, -inf), np.log1p(np.e), (0, 0)),
        (sl.orpo_loss, (-1.0, 0.0), 1, (-1, 0)),
        (sl.kto_loss, (-1.0, -inf, True), 0.5, (0, 0)),
    ):
        both = jax.value_and_grad(lambda c, r, f=f, rest=args[2:]: f(c, r, *rest, beta=zero), (0, 1))
        got, slope = jax.jit(both)(*args[:2])
        np.testing.assert_allclose(got, loss, rtol=1e-6)
        np.testing.assert_array_equal(slope, slopes)
