"""Numeric options are arguments like any other: they may be traced, batched and differentiated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import assert_close
from mpmath import mpf

import stablelogits_jax as sl
from stablelogits_jax.verify._binary_specs import binary, focal
from stablelogits_jax.verify._categorical_specs import categorical, squared
from stablelogits_jax.verify._oracle import derivatives, exp, log

LOGITS = [1.5, -0.75, 4.0]
SHARES = [0.25, 0.625, 0.125]
WEIGHTS = [0.5, 1.0, 2.0]


def smooth(y, s):
    return [(1 - s) * a + s / len(y) for a in y]


# The call with the option as its last argument, the textbook formula, what comes before the option, the option.
OPTIONS = {
    "sigmoid_binary_cross_entropy, pos_weight": (
        lambda x, y, w: sl.sigmoid_binary_cross_entropy(x, y, pos_weight=w),
        binary,
        (-1.5, 0.75),
        2.5,
    ),
    "sigmoid_binary_cross_entropy, label_smoothing": (
        lambda x, y, s: sl.sigmoid_binary_cross_entropy(x, y, label_smoothing=s),
        lambda x, y, s: binary(x, (1 - s) * y + s / 2),
        (-1.5, 0.75),
        0.125,
    ),
    "sigmoid_focal_loss, gamma": (lambda x, y, g: sl.sigmoid_focal_loss(x, y, gamma=g), focal, (2.5, 1.0), 1.5),
    "sigmoid_focal_loss, soft, gamma": (lambda x, y, g: sl.sigmoid_focal_loss(x, y, gamma=g), focal, (2.5, 0.25), 1.5),
    "sigmoid_focal_loss, alpha": (
        lambda x, y, a: sl.sigmoid_focal_loss(x, y, alpha=a),
        lambda x, y, a: (a * y + (1 - a) * (1 - y)) * focal(x, y),
        (2.5, 0.75),
        0.25,
    ),
    "softmax_cross_entropy, label_smoothing": (
        lambda x, y, s: sl.softmax_cross_entropy(x, y, label_smoothing=s),
        lambda x, y, s: categorical(x, smooth(y, s)),
        (LOGITS, SHARES),
        0.125,
    ),
    "softmax_cross_entropy, z_loss": (
        lambda x, y, z: sl.softmax_cross_entropy(x, y, z_loss=z),
        lambda x, y, z: categorical(x, y) + z * squared(x),
        (LOGITS, SHARES),
        0.125,
    ),
    "softmax_cross_entropy, weights": (
        lambda x, y, w: sl.softmax_cross_entropy(x, y, weights=w),
        lambda x, y, w: categorical(x, [a * b for a, b in zip(w, y, strict=True)]),
        (LOGITS, SHARES),
        WEIGHTS,
    ),
    "softmax_cross_entropy_with_integer_labels, label_smoothing": (
        lambda x, y, s: sl.softmax_cross_entropy_with_integer_labels(x, y, label_smoothing=s),
        lambda x, y, s: categorical(x, smooth([mpf(i == y) for i in range(3)], s)),
        (LOGITS, 1),
        0.125,
    ),
    "softmax_cross_entropy_with_integer_labels, z_loss": (
        lambda x, y, z: sl.softmax_cross_entropy_with_integer_labels(x, y, z_loss=z),
        lambda x, y, z: categorical(x, [mpf(i == y) for i in range(3)]) + z * squared(x),
        (LOGITS, 1),
        0.125,
    ),
    "softmax_cross_entropy_with_integer_labels, weights": (
        lambda x, y, w: sl.softmax_cross_entropy_with_integer_labels(x, y, weights=w),
        lambda x, y, w: categorical(x, [a * (i == y) for i, a in enumerate(w)]),
        (LOGITS, 1),
        WEIGHTS,
    ),
    "smooth_labels, alpha": (
        lambda y, a: sl.smooth_labels(y, a),
        lambda y, a: [(1 - a) * b + a / len(y) for b in y],
        (SHARES,),
        0.125,
    ),
    "logsumexp, b": (
        lambda x, b: sl.logsumexp(x, b=b),
        lambda x, b: log(sum(c * exp(a) for a, c in zip(x, b, strict=True))),
        (LOGITS,),
        WEIGHTS,
    ),
    "masked_mean, weights": (
        lambda loss, w: sl.masked_mean(loss, weights=w),
        lambda loss, w: sum(a * b for a, b in zip(loss, w, strict=True)) / sum(w),
        (LOGITS,),
        WEIGHTS,
    ),
}


def _array(value):
    return jnp.asarray(value) if isinstance(value, int) else jnp.asarray(value, jnp.float32)


@pytest.mark.parametrize("name", OPTIONS)
def test_traced_and_differentiated(name):
    """Value, and slope and curvature with respect to the option, against the oracle; mixed with the first argument."""
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
    mixed = jax.jit(jax.jacfwd(jax.jacrev(call, argnums=0), argnums=last))(*args)
    assert_close(np.reshape(mixed, (*outputs, size, -1)), curvature[:, :size, size:], 16, name, 0.5)


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
    got = jax.vmap(lambda o: call(*args, o))(several)
    for i in range(2):
        np.testing.assert_allclose(got[i], call(*args, several[i]), rtol=1e-6)


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
