"""Inputs that were once wrong, found by search: each beside what is right there."""

from functools import partial
from math import exp, inf, log, nan

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import grad, hessian

import stablelogits_jax as sl
from stablelogits_jax.verify._measure import float64_where_needed

A = jnp.array
BCE, FOCAL, DENSE = sl.sigmoid_binary_cross_entropy, sl.sigmoid_focal_loss, sl.softmax_cross_entropy
INTEGER = sl.softmax_cross_entropy_with_integer_labels
FIRST = A([True, False])
TWO = A([[0.0, 1.0], [0.0, 1.0]])
ONE_HOT_AND_NAN = A([[1.0, 0.0], [nan, nan]])
LOSS = log(1 + np.e)


X, T = A([1.0, 2.0, -3.0]), A([1.0, 0.0, 0.0])


def hot(x, t, temperature, where=None):
    return sl.distillation_loss(x, t, where=where, temperature=temperature)


def js(log_q, log_p, beta, where=None):
    return sl.js_divergence(log_q, log_p, where=where, beta=beta)


def in_factors(b, x=(0.0, 1.0)):
    return sl.logsumexp(A(x), b=b)


ABSENT = A([0.0, -inf, 1.0])
WEIGHTED = (
    lambda x, w, s: INTEGER(x, 0, weights=w, label_smoothing=s),
    lambda x, w, s: DENSE(x, A([1.0, 0.0, 0.0]), weights=w, label_smoothing=s),
)
SURE = A([120.0, 0.0])
TWO_PAIRS = jnp.eye(2)

CORNERS = {
    "a target of 0 and its prediction": (
        lambda: jax.jacfwd(grad(sl.kl_divergence), 1)(A([-1.0, -2.0]), A([1.0, 0.0])),
        [[-1, 0], [0, -1]],
    ),
    "an absent class of no target": (lambda: hessian(sl.kl_divergence)(A([0.0, -inf]), A([1.0, 0.0])), 0),
    "an absent class in every derivative": (
        lambda: jax.jacrev(hessian(sl.js_divergence))(A([0.0, -inf]), A([0.0, -inf]))[:, 1],
        0,
    ),
    "an absent class and the temperature": (
        lambda: grad(grad(lambda T: sl.distillation_loss(A([0.0, 1.0, -inf]), A([0.0, 1.0, -inf]), temperature=T)))(
            2.0
        ),
        0,
    ),
    "a mixture that is the smaller one, in every derivative": (
        lambda: hessian(lambda v: js(v[:1], v[1:2], v[2]))(A([-60.0, -160.0, 1.0])),
        [[0, 0, -100 * exp(-60)], [0, 0, 0], [-100 * exp(-60), 0, -exp(40)]],
    ),
    "a class of nearly the least normal probability": (
        lambda: grad(hot)(A([0.0, -86.5]), A([0.0, -300.0]), 1.0)[1],
        exp(-86.5),
    ),
    "the labels beside a smoothing of 1": (
        lambda: jax.jacfwd(grad(lambda y, s: DENSE(X, y, label_smoothing=s)), 1)(T, 1.0),
        sl.log_softmax(X),
    ),
    "a factor that is no number": (lambda: grad(lambda b: in_factors(b, (-inf, -inf)))(A([nan, 1.0])), nan),
    "no cap": (lambda: INTEGER(A([1.0, inf]), 1, soft_cap=inf), 0),
    "a small beta": (lambda: sl.js_divergence(A([-1.0]), A([0.0]), beta=1e-9), 1e-9 * np.exp(-1)),
    "the slope at a beta of 0": (
        lambda: grad(lambda b: sl.js_divergence(A([-1.0]), A([0.0]), beta=b))(0.0),
        np.exp(-1),
    ),
    "logits of opposite signs": (lambda: sl.bernoulli_kl_from_logits(A([-100.0, 3e38]), A([50.0, -3e38])), [50, 3e38]),
    "a teacher's slope beside logits of opposite ends": (
        lambda: jax.vmap(grad(lambda x, t: hot(x, t, 1.0), 1))(
            A([[3e38, -3e38], [3e38, -3e38]]), A([[0.0, 0.0], [-3e38, 3e38]])
        ),
        [[-1.5e38, 1.5e38], [0, 0]],
    ),
    "a temperature of 1e20": (lambda: sl.distillation_loss(A([0.0, inf]), A([0.0, -inf]), temperature=1e20), inf),
    "a temperature of 1e5": (lambda: hot(X, T, 1e5), 2.1111008),
    "a temperature of 1e10": (lambda: hot(X, T, 1e10), 19 / 9),
    "an infinite temperature": (lambda: A([hot(X, T, 1e38), hot(X, T, inf)]), 19 / 9),
    "slopes at an infinite temperature": (
        lambda: A(grad(hot, (0, 1))(X, T, inf)),
        [[1 / 9, 7 / 9, -8 / 9], [-1 / 9, -7 / 9, 8 / 9]],
    ),
    "curvature at an infinite temperature": (lambda: hessian(hot)(X, T, inf), np.eye(3) / 3 - 1 / 9),
    "hot logits far from zero": (lambda: hot(X + 8192, T - 1024, 1e10), 19 / 9),
    "a measure beyond the range": (
        lambda: sl.generalized_kl_divergence(A([[100.0], [95.0], [inf]]), A([[1e38], [1e38], [inf]])),
        inf,
    ),
    "the temperature of a masked example": (
        lambda: grad(lambda a: hot(TWO, TWO / 2, a, FIRST).sum())(A([1.0, nan])),
        [0.00606175610, 0],
    ),
    "a masked example and its temperature": (lambda: hot(TWO, TWO / 2, A([1.0, nan]), FIRST), [0.0279550377, 0]),
    "the beta of a masked example": (
        lambda: grad(lambda b: js(TWO, TWO / 2, b, FIRST).sum())(A([0.25, nan])),
        [0.134448973, 0],
    ),
    "a masked example and its beta": (lambda: js(TWO, TWO / 2, A([0.25, nan]), FIRST), [0.0476949869, 0]),
    "large logits of one difference": (lambda: sl.logit_matching_loss(A([1e8, 1e8]), A([0.3, 0.1])), 0.005),
    "the temperature of large logits": (
        lambda: sl.distillation_loss(A([1e6, 1e6 + 1]), A([1e6, 1e6 + 1]) - 1e6, temperature=0.7),
        0,
    ),
    "a class of 1/2, rounded": (
        lambda: jax.jit(lambda x, t: jax.vjp(sl.softmax, x)[1](t)[0])(A([0.0, -(2.0**-23)]), A([1e6 + 1, 1e6])),
        [0.25, -0.25],
    ),
    "a difference with a large tail": (lambda: grad(grad(sl.logaddexp))(3.9e32, 1.0), 0),
    "a factor of 0 twice": (lambda: hessian(in_factors)(A([0.0, 1.0])), -np.exp([[-2, -1], [-1, 0]])),
    "a small factor twice": (lambda: hessian(in_factors)(A([1e-20, 1.0])), -np.exp([[-2, -1], [-1, 0]])),
    "a factor and a logit": (
        lambda: jax.jacfwd(grad(lambda x, b: sl.logsumexp(x, b=b)), 1)(A([0.0, 1.0]), A([0.0, 1.0])),
        [[np.exp(-1), 0], [-np.exp(-1), 0]],
    ),
    "a factor of a small term": (lambda: grad(lambda b: in_factors(b, [-80.0, 0.0]))(A([1e-10, 1.0]))[0], np.exp(-80)),
    "no factor but 0": (lambda: grad(in_factors)(A([0.0, 0.0])), [0, 0]),
    "a dominant term twice": (
        lambda: hessian(lambda x: sl.logsumexp(x, b=A([1.0, 2.0])))(A([20.0, 0.0])),
        np.array([[1, -1], [-1, 1]]) * (2 * np.exp(-20) / (1 + 2 * np.exp(-20)) ** 2),
    ),
    "a masked factor": (lambda: sl.logsumexp(A([1.0, 1.0]), b=A([1.0, nan]), where=FIRST), 1),
    "no terms": (lambda: sl.logsumexp(jnp.zeros((2, 0)), -1, jnp.ones((2, 0))), [-inf, -inf]),
    "smoothing by a masked label": (
        lambda: grad(lambda s: BCE(A([0.0, 1.0]), A([1.0, nan]), label_smoothing=s, where=FIRST).sum())(0.1),
        0,
    ),
    "smoothing by masked shares": (
        lambda: grad(lambda s: DENSE(TWO, ONE_HOT_AND_NAN, label_smoothing=s, where=FIRST).sum())(0.1),
        -0.5,
    ),
    "smoothing by a masked index": (
        lambda: grad(lambda s: INTEGER(TWO, A([0, -1]), label_smoothing=s, where=FIRST).sum())(0.1),
        -0.5,
    ),
    "weights of masked shares": (
        lambda: grad(lambda w: DENSE(TWO, ONE_HOT_AND_NAN, weights=w, where=FIRST).sum())(A([1.0, 1.0])),
        [LOSS, 0],
    ),
    "weights of a masked index": (
        lambda: grad(lambda w: INTEGER(TWO, A([0, -1]), weights=w, where=FIRST).sum())(A([1.0, 1.0])),
        [LOSS, 0],
    ),
    "weights, an absent class and no smoothing": (
        lambda: [grad(partial(f, ABSENT))(A([1.0, 2.0, 3.0]), A(0.0)) for f in WEIGHTED],
        [[LOSS, 0, 0]] * 2,
    ),
    "smoothing, an absent class and none": (
        lambda: [grad(partial(f, ABSENT), 1)(A([1.0, 2.0, 3.0]), A(0.0)) for f in WEIGHTED],
        (LOSS + 3 * (LOSS - 1)) / 3 - LOSS,
    ),
    "smoothing beside an absent class": (
        lambda: [grad(partial(f, ABSENT), 1)(A([1.0, 2.0, 3.0]), A(0.5)) for f in WEIGHTED],
        inf,
    ),
    "smoothed masked labels": (
        lambda: grad(lambda a: sl.smooth_labels(A([1.0, 0.0, nan]), a, where=A([True, True, False])).sum())(0.1),
        0,
    ),
    "a little smoothing of a sure logit": (lambda: BCE(100.0, 1.0, label_smoothing=1e-8), 5e-7),
    "more of it": (lambda: BCE(100.0, 1.0, label_smoothing=1e-3), 0.05),
    "focal, gamma 0, label twice": (lambda: grad(grad(FOCAL, 1), 1)(50.0, 1.0, None, 0.0), 0),
    "focal, gamma 0, logit and label twice": (lambda: grad(grad(grad(FOCAL), 1), 1)(50.0, 1.0, None, 0.0), 0),
    "focal, gamma 1, label thrice": (lambda: grad(grad(grad(FOCAL, 1), 1), 1)(50.0, 1.0, None, 1.0), 0),
    "alpha of an infinite loss": (lambda: grad(lambda a: FOCAL(-inf, 1.0, a))(0.25), inf),
    "z-loss of one infinite logit": (lambda: grad(sl.z_loss)(A([inf, 0.0, -inf])), [inf, 0, 0]),
    "z-loss of one infinite logit twice": (lambda: hessian(sl.z_loss)(A([inf, 0.0, -inf])), np.diag([2.0, 0, 0])),
    "a tiny temperature of pairs that are told": (
        lambda: grad(lambda T: sl.info_nce_loss(TWO_PAIRS, TWO_PAIRS, temperature=T).sum())(1e-20),
        0,
    ),
    "a label beside an infinite logit, weighted": (
        lambda: A([grad(FOCAL, 1)(inf, y, a) for y in (0.0, 0.5) for a in (0.25, 0.75)]),
        -inf,
    ),
    "a small share of an infinite loss": (lambda: A([FOCAL(-inf, 1e-25), FOCAL(inf, 1e-8, 1.0)]), inf),
    "a small label, balanced": (lambda: FOCAL(A([0.0, 120.0]), 1e-8, 1.0, 0.0), [log(2) * 1e-8, 1.2e-6]),
    "gamma of a sure label twice": (lambda: grad(grad(FOCAL, 3), 3)(87.0, 1.0, 0.25, 0.0), 3.1142866e-35),
    "a hard label of a hard alpha, its logit and gamma": (
        lambda: A([grad(grad(FOCAL, 0), 3)(inf, 1.0, 0.0, 2.0), grad(grad(FOCAL, 3), 0)(-inf, 0.0, 1.0, 2.0)]),
        0,
    ),
    "alpha of a soft label beside an infinite logit": (lambda: grad(FOCAL, 2)(inf, 0.25, 0.25), -inf),
    "a far logit, its label and gamma": (
        lambda: grad(grad(FOCAL, 3), 1)(300.0, 0.5, None, 2.0),
        300 * (0.25 * (3 * log(2) - 1)),
    ),
    "a sure logit, its label and gamma": (lambda: grad(grad(FOCAL, 3), 1)(300.0, 1.0, None, 2.0), 0),
    "z-loss, squared beyond the range": (lambda: INTEGER(A([1e20, 0.0]), 0, z_loss=1e-4), 1e36),
    "a mean of equal small logs": (lambda: sl.logmeanexp(A([1e-8, 1e-8])), 1e-8),
    "weights that select nothing": (lambda: grad(lambda w: sl.masked_mean(A([1.0, 2.0]), weights=w))(A([0.0, 0.0])), 0),
    "1 + y behind a product": (
        lambda: jax.jit(grad(lambda z: jnp.sum(sl.xlog1py(A([1.0]), z * 0.7))))(A([-1.4285715])),
        inf,
    ),
    "shares of 2 in reverse over reverse mode": (
        lambda: grad(lambda x: jnp.vdot(grad(DENSE)(x, A([0.7, 1.3])), A([3000.1, 3000.0])))(A([0.3, 0.0])),
        np.array([1, -1]) * 2 * (float(A(3000.1)) - 3000) * 0.24445831169074586,
    ),
    "a logarithm of a subnormal number": (lambda: sl.xlogy(1.0, 1e-40), -92.10341),
    "a ratio to a subnormal number": (lambda: sl.rel_entr(0.5, 1e-40), 45.70513),
    "a large ratio to a subnormal number": (lambda: sl.rel_entr(1e30, 1e-40), 1.6118097e32),
    "a ratio of tiny numbers": (lambda: grad(sl.rel_entr)(2.2334392e-38, 1.1754944e-38), 1.6418539),
    "the third slope of a logarithm": (lambda: grad(grad(grad(sl.xlogy), 1), 1)(1.0, 6.9e-20), -2.1003990e38),
    "focal, gamma 0, a sure row twice": (
        lambda: hessian(lambda x: sl.softmax_focal_loss(x, FIRST, gamma=0.0))(SURE),
        0,
    ),
    "focal, gamma 1/4, a sure row twice": (
        lambda: hessian(lambda x: sl.softmax_focal_loss(x, FIRST, gamma=0.25))(SURE),
        0,
    ),
    "matched beyond the range": (lambda: sl.logit_matching_loss(A([-100.0, 0, 3e38]), A([-inf, 3e38, 1.0])), inf),
    "rows of none": (lambda: grad(lambda x: sl.softmax(x).sum())(jnp.zeros((0, 4096))).size, 0),
    "a slope of two terms that are flushed": (
        lambda: grad(sl.log_sigmoid_diff)(87.56971, -0.7463501),
        1.3724084329379783e-38,
    ),
}


@pytest.mark.parametrize("name", CORNERS)
def test_corner(name):
    call, wanted = CORNERS[name]
    got = np.asarray(call())
    np.testing.assert_allclose(got, np.broadcast_to(wanted, got.shape), rtol=2e-6, atol=0)


FORMS = {
    "dense": lambda x, y: sl.softmax_cross_entropy(x, y),
    "integer": lambda x, y: sl.softmax_cross_entropy_with_integer_labels(x, jnp.argmax(y, -1)),
    "focal": lambda x, y: sl.softmax_focal_loss(x, y, gamma=1.0),
    "poly": lambda x, y: sl.poly_loss_cross_entropy(x, y),
}


@pytest.mark.parametrize("top", [150, 177.4, 210, 1e5, -210])
@pytest.mark.parametrize("name", FORMS)
def test_a_product_is_rounded_once(name, top):
    """Logits z c, which XLA fuses into what uses them, beyond the tops that are reduced themselves: z c is the top."""
    z = jnp.asarray(top + np.random.default_rng(0).uniform(-15, 0, (64, 3)), jnp.float32) / 1.7
    z = z.at[:8, 1].set(z[:8, 0])
    y = jnp.eye(3)[jnp.argmax(z, -1)]
    f, c = FORMS[name], jnp.float32(1.7)
    loss, slope = jax.jit(jax.vmap(jax.value_and_grad(lambda z, y: f(z * c, y))))(z, y)
    wanted, wanted_slope = jax.vmap(jax.value_and_grad(f))(jax.lax.optimization_barrier(z * c), y)
    np.testing.assert_allclose(loss, wanted, rtol=1e-6)
    np.testing.assert_allclose(slope, wanted_slope * c, rtol=3e-6)


@pytest.mark.parametrize("modes", ["rrr", "frf"])
@pytest.mark.parametrize("order", ["xxx", "xyx", "yxx", "xxy"])
@pytest.mark.parametrize("name", ["dense", "focal", "poly"])
def test_third_derivatives(name, order, modes):
    """Against central differences of the second, with a hot class and without one."""
    v, w = np.array([1.0, -1.0, 0.5]), np.array([1.0, 2.0, 3.0])

    def along(h, kind, mode):
        i, t = ("xy".index(kind), jnp.asarray(v if kind == "x" else w))

        def forward(*arguments):
            return jax.jvp(lambda a: h(*arguments[:i], a, *arguments[i + 1 :]), (arguments[i],), (t,))[1]

        def reverse(*arguments):
            return jax.grad(h, i)(*arguments) @ t

        return forward if mode == "f" else reverse

    with float64_where_needed("float64"):
        h = FORMS[name]
        for kind, mode in zip(order[:2], modes, strict=False):
            h = along(h, kind, mode)
        third, h = jax.jit(along(h, order[2], modes[2])), jax.jit(h)
        y, step = np.array([0.2, 0.5, 0.3]), 1e-5
        for x in (np.array([0.1, 0.2, -0.3]), np.array([2.0, -1.0, 0.3])):
            dx, dy = (step * v, 0 * w) if order[2] == "x" else (0 * v, step * w)
            wanted = (h(x + dx, y + dy) - h(x - dx, y - dy)) / (2 * step)
            np.testing.assert_allclose(third(x, y), wanted, rtol=1e-7, atol=1e-8)
