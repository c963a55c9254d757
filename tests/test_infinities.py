"""Infinities are limits: the table of the contract, row by row, for every form of a loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import assert_close

import stablelogits_jax as sl

INF, NAN = np.inf, np.nan
LOG_2, LOG_3 = np.log(2.0), np.log(3.0)
ZERO = (0.0, 0.0, 0.0)


def dense(*labels, **options):
    return lambda x: sl.softmax_cross_entropy(x, jnp.asarray(labels, x.dtype), **options)


def integer(label, **options):
    return lambda x: sl.softmax_cross_entropy_with_integer_labels(x, jnp.asarray(label), **options)


def binary(label, **options):
    return lambda x: sl.sigmoid_binary_cross_entropy(x, jnp.asarray(label, x.dtype), **options)


def focal(label):
    return lambda x: sl.sigmoid_focal_loss(x, jnp.asarray(label, x.dtype))


def first(f):
    """The first entry of a result that is a row."""
    return lambda x: f(x)[0]


NONE = jnp.zeros(3, bool)
SECOND_OUT = jnp.array([True, False, True])

# Of each row: the function, the logits, the value and the gradient.
TABLE = {
    "row all -inf": [
        (sl.logsumexp, (-INF,) * 3, -INF, ZERO),
        (sl.logmeanexp, (-INF,) * 3, -INF, ZERO),
        (first(sl.softmax), (-INF,) * 3, 0, ZERO),
        (first(sl.log_softmax), (-INF,) * 3, -INF, ZERO),
        (sl.entropy_from_logits, (-INF,) * 3, 0, ZERO),
    ],
    "no term present": [
        (lambda x: sl.logsumexp(x, b=jnp.array([2, -1, 0], x.dtype)), (-INF, -INF, 88), -INF, ZERO),
    ],
    "teacher has a class that the student lacks": [
        (lambda t: sl.kl_from_logits(t, jnp.array([0, -INF, 0], t.dtype)), (1, 2, -INF), INF, (-INF, INF, 0)),
        (lambda t: sl.kl_from_logits(t, jnp.array([0, -INF], t.dtype)), (0, 30), INF, (-INF, INF)),
        (lambda t: sl.kl_from_logits(t, jnp.array([-INF, -INF, 0], t.dtype)), (0, 0, -INF), INF, ZERO),
        (lambda t: sl.distillation_loss(jnp.array([0, 1, INF], t.dtype), t), (1, 2, 1), INF, (INF, INF, -INF)),
        (lambda t: sl.distillation_loss(jnp.full(3, -INF, t.dtype), t), (1, 2, 1), INF, ZERO),
        (lambda t: sl.distillation_loss(jnp.array([0, -INF, NAN], t.dtype), t), (1, 2, 1), NAN, (NAN,) * 3),
    ],
    "where all False": [
        (lambda x: sl.logsumexp(x, where=NONE), (1, NAN, INF), -INF, ZERO),
        (lambda x: sl.softmax(x, where=NONE)[1], (1, NAN, INF), 0, ZERO),
        (lambda x: sl.log_softmax(x, where=NONE)[1], (1, NAN, INF), -INF, ZERO),
    ],
    "one +inf logit": [
        (sl.logsumexp, (1, INF, -INF), INF, (0, 1, 0)),
        (lambda x: sl.softmax(x)[1], (1, INF, -INF), 1, ZERO),
        (first(sl.softmax), (1, INF, -INF), 0, ZERO),
        (dense(0, 1, 0), (1, INF, -INF), 0, ZERO),
        (integer(1), (1, INF, -INF), 0, ZERO),
        (dense(1, 0, 0), (1, INF, -INF), INF, (-1, 1, 0)),
        (integer(0), (1, INF, -INF), INF, (-1, 1, 0)),
    ],
    "several +inf": [
        (sl.logsumexp, (INF, 1, INF), INF, (0.5, 0, 0.5)),
        (first(sl.softmax), (INF, 1, INF), 0.5, (0.25, 0, -0.25)),
        (dense(1, 0, 0), (INF, 1, INF), LOG_2, (-0.5, 0, 0.5)),
        (integer(0), (INF, 1, INF), LOG_2, (-0.5, 0, 0.5)),
        (integer(0), (INF, INF, INF), LOG_3, (-2 / 3, 1 / 3, 1 / 3)),
    ],
    "label's class absent": [
        (dense(0, 1, 0), (2, -INF, 2), INF, (0.5, -1, 0.5)),
        (dense(0.5, 0.5, 0), (2, -INF, 2), INF, (0, -0.5, 0.5)),
        (integer(1), (2, -INF, 2), INF, (0.5, -1, 0.5)),
        (integer(0, label_smoothing=0.375), (2, -INF, 2), INF, (-0.25, -0.125, 0.375)),
        (integer(1, z_loss=0.5), (0, -INF, -INF), INF, (1, -1, 0)),
    ],
    "absent class with label 0": [
        (dense(1, 0, 0), (2, -INF, 2), LOG_2, (-0.5, 0, 0.5)),
        (integer(0), (2, -INF, 2), LOG_2, (-0.5, 0, 0.5)),
        (dense(1, 0, 0, where=SECOND_OUT), (2, NAN, 2), LOG_2, (-0.5, 0, 0.5)),
        (integer(0, where=SECOND_OUT), (2, INF, 2), LOG_2, (-0.5, 0, 0.5)),
        (integer(0, where=SECOND_OUT, label_smoothing=0.5), (2, INF, 2), LOG_2, (-0.25, 0, 0.25)),
        (sl.entropy_from_logits, (2, -INF, 2), LOG_2, ZERO),
        (lambda x: sl.kl_from_logits(x, x), (2, -INF, 2), 0, ZERO),
    ],
    "binary logit at infinity, matching label": [
        (binary(1), INF, 0, 0),
        (binary(0), -INF, 0, 0),
        (binary(1, pos_weight=3.0), INF, 0, 0),
        (focal(1), INF, 0, 0),
        (focal(0), -INF, 0, 0),
    ],
    "binary logit at infinity, opposing or soft label": [
        (binary(0), INF, INF, 1),
        (binary(1), -INF, INF, -1),
        (binary(0.25), INF, INF, 0.75),
        (binary(0.25), -INF, INF, -0.25),
        (binary(1, label_smoothing=0.5), INF, INF, 0.25),
        (binary(1, pos_weight=3.0), -INF, INF, -3),
        (focal(0), INF, INF, 1),
        (focal(1), -INF, INF, -1),
    ],
    "every class out by where; example masked": [
        (dense(0, 1, 0, where=NONE), (NAN, INF, -INF), 0, ZERO),
        (integer(1, where=NONE), (NAN, INF, -INF), 0, ZERO),
        (integer(1, where=NONE, z_loss=1.0, label_smoothing=0.5), (NAN, INF, -INF), 0, ZERO),
        (binary(1, where=False), NAN, 0, 0),
        (lambda x: sl.masked_mean(x, where=NONE), (NAN, INF, -INF), 0, ZERO),
    ],
    "row literally all -inf, not masked": [
        (dense(0, 1, 0), (-INF,) * 3, INF, ZERO),
        (integer(1), (-INF,) * 3, INF, ZERO),
        (integer(1, label_smoothing=0.5), (-INF,) * 3, INF, ZERO),
    ],
    "integer label outside [0, K)": [
        (integer(3), (1, 2, 3), NAN, (NAN,) * 3),
        (integer(-1), (1, 2, 3), NAN, (NAN,) * 3),
        (integer(-3), (-INF,) * 3, NAN, (NAN,) * 3),
        (lambda x: sl.log_prob_from_logits(x, jnp.asarray(-1)), (1, 2, 3), NAN, (NAN,) * 3),
    ],
    "integer label equal to ignore_index": [
        (integer(-1, ignore_index=-1), (1, 2, 3), 0, ZERO),
        (integer(2, ignore_index=2), (NAN, INF, -INF), 0, ZERO),
    ],
}
ROWS = [(row, i) for row, cases in TABLE.items() for i in range(len(cases))]


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
@pytest.mark.parametrize(("row", "i"), ROWS, ids=lambda a: str(a).replace(" ", "_"))
def test_row(row, i, kind):
    f, logits, value, gradient = TABLE[row][i]
    x = jnp.asarray(logits, kind)
    units = jnp.eye(x.size, dtype=x.dtype).reshape(x.size, *x.shape)

    def everything(x):
        return f(x), jax.grad(f)(x), jax.vmap(lambda unit: jax.jvp(f, (x,), (unit,))[1])(units)

    for run in (lambda g: g, jax.jit) if kind == "float32" else (jax.jit,):
        got, reverse, forward = run(everything)(x)
        assert_close(got, value, 2, row)
        assert_close(reverse, gradient, 4, f"{row}: slope in reverse mode")
        if not np.isinf(gradient).any():  # beside a tangent of 0
            assert_close(forward.reshape(x.shape), gradient, 4, f"{row}: slope in forward mode")


@pytest.mark.parametrize("f", [sl.kl_divergence, sl.generalized_kl_divergence])
def test_targets_of_zero(f):
    """The slope in a target of 0 is -inf, those in the others are finite, in every mode; so with curvatures, but in
    forward mode twice, where an infinite curvature of one tangent meets the 0 of the other."""
    log_q, t = jnp.log(jnp.array([0.2, 0.3, 0.5])), jnp.array([0.6, 0.4, 0.0])
    slope = jnp.log(t) - log_q + (1.0 if f is sl.kl_divergence else 0.0)
    for jacobian in (jax.jacfwd, jax.jacrev):
        assert_close(jax.jit(jacobian(f, 1))(log_q, t), slope, 4, "slope")
        for twice in (jax.jacfwd, jax.jacrev) if jacobian is jax.jacrev else (jax.jacrev,):
            assert_close(jax.jit(twice(jacobian(f, 1), 1))(log_q, t), np.diag([1 / 0.6, 1 / 0.4, INF]), 4, "curvature")
            assert_close(jax.jit(twice(jacobian(f, 1), 0))(log_q, t), -np.eye(3), 4, "mixed")
    on_the_face = jax.jvp(lambda t: f(log_q, t), (t,), (jnp.array([1.0, -1.0, 0.0]),))[1]
    assert_close(on_the_face, slope[0] - slope[1], 4, "along what stays")
