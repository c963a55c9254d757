"""The losses at the ends of what their inputs and options may be, in value, slope and curvature of each argument."""

from itertools import product
from math import inf, log, nan

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stablelogits_jax as sl

LOG_2 = log(2)
LARGEST, SMALLEST = (float(a) for a in (jnp.finfo("float32").max, jnp.finfo("float32").tiny))


def dpo(c, r, beta, s, robust=False):
    return sl.dpo_loss(c, r, jnp.zeros_like(c), jnp.zeros_like(c), beta=beta, label_smoothing=s, robust=robust)


def robust(c, r, beta, s):
    return dpo(c, r, beta, s, True)


def ipo(c, r, beta):
    return sl.ipo_loss(c, r, jnp.zeros_like(c), jnp.zeros_like(c), beta=beta)


def orpo(c, r, beta):
    return sl.orpo_loss(c, r, beta=beta)


def simpo(c, r, beta, gamma, s):
    return sl.simpo_loss(c, r, beta=beta, gamma=gamma, label_smoothing=s)


def desirable(p, q, beta, kl):
    return sl.kto_loss(p, q, True, beta=beta, kl=kl)


def undesirable(p, q, beta, kl):
    return sl.kto_loss(p, q, False, beta=beta, kl=kl)


def generalized_kl(log_q, t):
    return sl.generalized_kl_divergence(log_q[None], t[None])


def js(log_q, log_p, b):
    return sl.js_divergence(log_q[None], log_p[None], beta=b)


def capped(x, cap):
    return sl.softmax_cross_entropy_with_integer_labels(jnp.stack([x, 0 * x]), 1, soft_cap=cap)


def binary(x, y, s, w):
    return sl.sigmoid_binary_cross_entropy(x, y, label_smoothing=s, pos_weight=w)


# A loss and its arguments; its value, slopes and curvatures, each in one argument alone.
ENDS = {
    "both answers certain": (orpo, (0, 0, 0.5), 0.5 * LOG_2, (-inf, inf, LOG_2), (-inf, inf, 0)),
    "both answers certain, of no weight": (orpo, (0, 0, 0), 0, (-1, 0, LOG_2), (0, 0, 0)),
    "the chosen answer certain": (orpo, (0, log(0.5), 0.5), 0, (-1.5, 0, 0), (0, 0, 0)),
    "the rejected answer certain": (orpo, (log(0.5), 0, 0.5), inf, (-2, inf, inf), (-1, inf, 0)),
    "the rejected answer certain, of no weight": (orpo, (-1, 0, 0), 1, (-1, 0, inf), (0, 0, 0)),
    "an answer infinitely good": (desirable, (inf, -1, 0.5, 0), 0, (0, 0, 0, 0), (0, 0, 0, 0)),
    "an answer infinitely good, and beta 0": (desirable, (inf, -1, 0, 0), 0.5, (0, 0, -inf, 0), (0, 0, 0, 0)),
    "an answer infinitely bad": (undesirable, (-inf, -1, 0.5, 0), 0, (0, 0, 0, 0), (0, 0, 0, 0)),
    "a logit of +inf, smoothed": (binary, (inf, 0, 0.5, 2), inf, (0.75, -inf, -inf, 0), (0, 0, 0, 0)),
    "a logit of +inf that matches": (binary, (inf, 1, 0, 2), 0, (0, 0, inf, 0), (0, 0, 0, 0)),
    "a logit of -inf, wholly smoothed": (binary, (-inf, 0, 1, 2), inf, (-1, 0, inf, inf), (0, 0, 0, 0)),
    "a logit of -inf, of no weight": (binary, (-inf, 1, 0.5, 0), 0, (0, 0, 0, inf), (0, 0, 0, 0)),
    "an infinite lead": (dpo, (-1, -inf, 0.5, 0), 0, (0, 0, 0, inf), (0, 0, 0, 0)),
    "an infinite lead, smoothed": (dpo, (-1, -inf, 0.5, 0.25), inf, (0.125, -0.125, inf, inf), (0, 0, 0, 0)),
    "an infinite lead, robust": (robust, (-1, -inf, 0.5, 0), 0, (0, 0, 0, -inf), (0, 0, 0, -inf)),
    "no lead, robust": (robust, (-1, -1, 0.5, 0), LOG_2, (-0.25, 0.25, 0, 0), (0.0625, 0.0625, 0, 0)),
    "an infinite lead and its target": (ipo, (-1, -inf, 1e30), inf, (inf, -inf, inf), (2, 2, -inf)),
    "a beta of 1e30": (ipo, (-1, -3, 1e30), 4, (4, -4, 0), (2, 2, 0)),
    "a beta of 1e-30": (ipo, (-1, -3, 1e-30), inf, (-1e30, 1e30, -inf), (2, 2, inf)),
    "a coin beside one that is sure": (
        sl.bernoulli_kl_from_logits,
        (0, inf),
        inf,
        (-inf, 0.5),
        (0.25, 0),
    ),
    "an infinite measure": (generalized_kl, (0, inf), inf, (-inf, inf), (1, 0)),
    "a mixture that is the smaller one": (js, (0, -88, 1), 0, (0, 0, -87), (0, 0, -1.6516363e38)),
    "a cap whose inverse is subnormal": (capped, (1e38, 3e38), 9.645382e37, (0.8966296, 0.0226362), (0, 0)),
    "a target that is hit": (ipo, (-1, -3, 0.25), 0, (0, 0, 0), (2, 2, 128)),
}


def everything(f, n):
    """Value, slopes in reverse and in forward mode, curvatures: forward over reverse."""

    def of(*args):
        slopes, pushed, curvatures = (
            jnp.stack([jnp.asarray(order(i)(*args), jnp.float32) for i in range(n)])
            for order in (
                lambda i: jax.grad(f, i),
                lambda i: jax.jacfwd(f, i),
                lambda i: jax.jacfwd(jax.grad(f, i), i),
            )
        )
        return f(*args), slopes, pushed, curvatures

    return of


@pytest.mark.parametrize("name", ENDS)
def test_end(name):
    f, given, value, slopes, curvatures = ENDS[name]
    args = [jnp.float32(a) for a in given]
    for run in (lambda f: f, jax.jit):
        got = run(everything(f, len(args)))(*args)
        for a, wanted in zip(got, (value, slopes, slopes, curvatures), strict=True):
            np.testing.assert_allclose(a, wanted, rtol=2e-6, atol=1e-37, err_msg=name)


ORDERED = {  # value, slope in the logit, slopes in the cutpoints: an infinite cutpoint is beyond every logit
    "nothing below the first": ((0.0, 0, (-inf, 1.0)), (inf, 1, -1, 0)),
    "nothing above the last": ((0.0, 2, (-1.0, inf)), (inf, -1, 0, 1)),
    "nothing between equal ones": ((inf, 1, (inf, inf)), (inf, -1, 1, 0)),
    "all between infinite ones": ((-inf, 1, (-inf, inf)), (0, 0, 0, 0)),
    "an infinite logit below an infinite cutpoint": ((inf, 1, (-1.0, inf)), (0, 0, 0, 0)),
    "an infinite logit and none above": ((inf, 2, (-1.0, inf)), (inf, -1, 0, 1)),
    "no such class": ((0.3, -1, (-1.0, 1.0)), (nan, nan, nan, 0)),
    "one class too many": ((0.3, 3, (-1.0, 1.0)), (nan, nan, 0, nan)),
    "a NaN beside an infinite cutpoint": ((nan, 0, (-inf, 1.0)), (nan, nan, nan, 0)),
    "a NaN between equal cutpoints": ((nan, 1, (1.0, 1.0)), (nan, nan, nan, nan)),
    "decreasing cutpoints": ((0.0, 1, (2.0, 1.0)), (nan, nan, nan, nan)),
    "a distance that overflows": ((3e38, 1, (-3e38, 1.0)), (3e38, 1, 0, -1)),
}


@pytest.mark.parametrize("name", ORDERED)
def test_ends_of_an_order(name):
    (x, label, cutpoints), wanted = ORDERED[name]
    f = jax.jit(jax.value_and_grad(sl.ordinal_cross_entropy, (0, 2)))
    loss, (in_x, in_cutpoints) = f(x, label, jnp.array(cutpoints))
    np.testing.assert_allclose(np.hstack([loss, in_x, in_cutpoints]), wanted, rtol=1e-6)


LOGS = (0.0, -SMALLEST, -1e-10, -1.0, -50.0, -1e20, -LARGEST, -inf)
SCORES = (inf, LARGEST, 1.0, 0.0, -1.0, -LARGEST, -inf)
BETAS = (0.0, SMALLEST, 1e-30, 0.1, 1e30, LARGEST)
SHARES = (0.0, SMALLEST, 1e-30, 0.25, 0.49)
LABELS = (0.0, 0.25, 0.5, 1.0)
FAR = (inf, 1e36, 300.0, 1.0, 0.0, -1.0, -300.0, -1e36, -inf)
GRIDS = {
    "sigmoid_binary_cross_entropy": (binary, SCORES, LABELS, LABELS, (0.0, 1.0, 3.0)),
    "sigmoid_focal_loss": (sl.sigmoid_focal_loss, FAR, (1e-13, *LABELS), LABELS, (0.0, 1.0, 2.0, 3.5)),
    "orpo_loss": (orpo, LOGS, LOGS, BETAS),
    "dpo_loss": (dpo, SCORES, SCORES, BETAS, SHARES),
    "dpo_loss, robust": (robust, SCORES, SCORES, BETAS, SHARES),
    "ipo_loss": (ipo, SCORES, SCORES, (*BETAS[1:], inf)),
    "simpo_loss": (simpo, SCORES, SCORES, BETAS, (0.0, 1.0, LARGEST), (*SHARES, 0.5)),
    "kto_loss": (desirable, SCORES, SCORES, BETAS, (0.0, 1.0, LARGEST)),
    "kto_loss, undesirable": (undesirable, SCORES, SCORES, BETAS, (0.0, 1.0, LARGEST)),
    "bernoulli_kl_from_logits": (sl.bernoulli_kl_from_logits, (*SCORES, SMALLEST, 50.0), (*SCORES, SMALLEST, 50.0)),
    "bradley_terry_loss": (lambda c, r, m: sl.bradley_terry_loss(c, r, margin=m), SCORES, SCORES, (0.0, 1.0, LARGEST)),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", GRIDS)
def test_no_nan(name, dtype):
    f, *columns = GRIDS[name]
    smallest, largest = (float(a) for a in (jnp.finfo(dtype).tiny, jnp.finfo(dtype).max))
    points = np.array(list(product(*columns)))
    within = np.sign(points) * np.clip(np.abs(points), smallest, largest)
    points = np.where(np.isinf(points), points, within)
    args = [jnp.asarray(column, dtype) for column in points.T]
    for got in jax.jit(jax.vmap(everything(f, len(args))))(*args):
        nan = np.isnan(got).reshape(len(points), -1).any(-1)
        assert not nan.any(), f"{name}: {points[nan][:5]}"


def test_orders():
    """Of a slope that is made order by order, the sixth too."""
    ours, plain = (lambda b: sl.kto_loss(-1.0, -2.0, True, beta=b)), (lambda b: jax.nn.sigmoid(-b))
    for _ in range(6):
        ours, plain = jax.grad(ours), jax.grad(plain)
        np.testing.assert_allclose(ours(0.7), plain(0.7), rtol=1e-4)
