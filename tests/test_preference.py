"""The losses on answers beside the formulas of their papers, and what holds between them for all inputs."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import each
from hypothesis import given
from hypothesis import strategies as st
from mpmath import workprec
from test_invariants import EPS, close

import stablelogits_jax as sl
from stablelogits_jax.verify._measure import float64_where_needed
from stablelogits_jax.verify._oracle import along
from stablelogits_jax.verify._preference_specs import PREFERENCES

# Beside plain formulas ----------------------------------------------------------------------------------------------

RNG = np.random.default_rng(12)
C, R, P, Q = RNG.uniform(-8, -0.01, (4, 100))
GOOD = RNG.random(100) < 0.5
B, S, G = 0.3, 0.2, 0.7


def loss_of(z):
    return -np.log(1 / (1 + np.exp(-z)))


H, D = (C - R) - (P - Q), C - R
ODDS = np.log(np.exp(C) / (1 - np.exp(C))) - np.log(np.exp(R) / (1 - np.exp(R)))

PLAIN = {
    "bradley_terry_loss": (lambda: sl.bradley_terry_loss(C, R), loss_of(D)),
    "bradley_terry_loss, margin": (lambda: sl.bradley_terry_loss(C, R, margin=G), loss_of(D - G)),
    "simpo_loss": (lambda: sl.simpo_loss(C, R), loss_of(2 * D - 1)),
    "simpo_loss, options": (
        lambda: sl.simpo_loss(C, R, beta=B, gamma=G, label_smoothing=S),
        (1 - S) * loss_of(B * D - G) + S * loss_of(G - B * D),
    ),
    "orpo_loss": (lambda: sl.orpo_loss(C, R, beta=B), -C + B * loss_of(ODDS)),
    "dpo_loss": (lambda: sl.dpo_loss(C, R, P, Q), loss_of(0.1 * H)),
    "dpo_loss, label_smoothing": (
        lambda: sl.dpo_loss(C, R, P, Q, beta=B, label_smoothing=S),
        (1 - S) * loss_of(B * H) + S * loss_of(-B * H),
    ),
    "dpo_loss, robust": (
        lambda: sl.dpo_loss(C, R, P, Q, beta=B, label_smoothing=S, robust=True),
        ((1 - S) * loss_of(B * H) - S * loss_of(-B * H)) / (1 - 2 * S),
    ),
    "dpo_loss, robust without smoothing": (lambda: sl.dpo_loss(C, R, P, Q, beta=B, robust=True), loss_of(B * H)),
    "ipo_loss": (lambda: sl.ipo_loss(C, R, P, Q, beta=B), (H - 1 / (2 * B)) ** 2),
    "kto_loss": (
        lambda: sl.kto_loss(C, P, GOOD, kl=G, beta=B, desirable_weight=2.0, undesirable_weight=0.5),
        np.where(GOOD, 2 / (1 + np.exp(B * (C - P - G))), 0.5 / (1 + np.exp(B * (G - (C - P))))),
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_beside_the_paper(name):
    call, wanted = PLAIN[name]
    with float64_where_needed("float64"):
        np.testing.assert_allclose(call(), wanted, rtol=1e-13, atol=1e-15)  # the formula takes a logarithm near 1
    np.testing.assert_allclose(call(), wanted, rtol=3e-6, atol=1e-6)


def test_options_for_each_answer():
    """One number or one for each, also where a weight of the other kind of answer is NaN."""
    b = jnp.asarray(RNG.uniform(0.1, 1, 100), jnp.float32)
    each = jnp.stack([sl.dpo_loss(C[i], R[i], P[i], Q[i], beta=b[i], label_smoothing=S) for i in range(4)])
    np.testing.assert_allclose(sl.dpo_loss(C, R, P, Q, beta=b, label_smoothing=S)[:4], each, rtol=1e-6)
    weight = jnp.where(GOOD, b, jnp.nan)
    loss, slope = jax.value_and_grad(lambda c: jnp.sum(jnp.where(GOOD, _kto(c, weight), 0)))(jnp.asarray(C))
    assert jnp.isfinite(loss)
    assert jnp.all(jnp.isfinite(slope))
    both = jax.grad(lambda w: jnp.sum(_kto(jnp.asarray(C), w)))(weight)
    np.testing.assert_array_equal(both == 0, ~GOOD)


@pytest.mark.parametrize("c", [-np.inf, np.inf])
def test_kto_without_a_weight_at_an_infinite_lead(c):
    """No slope but in the weight, and that is what an example of weight 1 loses."""

    def f(c, beta, weight):
        return sl.kto_loss(c, -1.0, True, beta=beta, desirable_weight=weight)

    for beta in (0.0, 0.5):
        assert f(c, beta, 0.0) == 0
        *slopes, in_weight = jax.grad(f, (0, 1, 2))(jnp.float32(c), beta, 0.0)
        assert slopes == [0, 0]
        assert in_weight == f(c, beta, 1.0) == (0.5 if beta == 0 else float(c < 0))


def _kto(c, weight):
    return sl.kto_loss(c, P, GOOD, desirable_weight=weight)


def test_robust_is_the_loss_on_average():
    """Over preferences of which a share s is the wrong way round the robust loss is that of the right ones."""
    robust = jax.jit(lambda *logps: sl.dpo_loss(*logps, label_smoothing=S, robust=True))
    average = (1 - S) * robust(C, R, P, Q) + S * robust(R, C, Q, P)
    np.testing.assert_allclose(average, sl.dpo_loss(C, R, P, Q), rtol=1e-5)


@each([spec for spec in PREFERENCES if not spec.options])
def test_third_order(spec):
    """Along a line in the first two arguments, by forward mode within reverse within forward mode."""
    columns = {4: (C, R, P, Q), 3: (C, P, GOOD), 2: (C, R)}[len(spec.grid("float64"))]
    x, y, *rest = (column[:20] for column in columns)

    def along_line(t):
        return jnp.sum(spec.ours()(x + t, y - t / 2, *rest))

    with float64_where_needed("float64"):
        t = jnp.zeros(20)
        slope = jax.grad(lambda t: jnp.sum(jax.jvp(along_line, (t,), (jnp.ones(20),))[1]))
        got = jax.jvp(slope, (t,), (jnp.ones(20),))[1]
    points = zip(x, y, *rest, strict=True)
    with workprec(200):
        wanted = [float(along(spec.formula, point, (0, 1), {0: 1, 1: -0.5}, 3)[3].item()) for point in points]
    np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-15)


# Between one another ------------------------------------------------------------------------------------------------

long = st.floats(-1e5, 0, width=32, allow_subnormal=False)
far = st.floats(-(2.0**124), 2.0**124, width=32, allow_subnormal=False)
largest = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)
answers = st.tuples(long, long, long, long)


@jax.jit
def lead(*logps):
    """From the slope 2 (h - 1 / (2 beta))."""
    return jax.grad(lambda c: sl.ipo_loss(c, *logps[1:], beta=jnp.inf))(logps[0]) / 2


dpo = jax.jit(jax.value_and_grad(sl.dpo_loss, (0, 1, 2, 3)))
simpo = jax.jit(jax.value_and_grad(lambda c, r: sl.simpo_loss(c, r, beta=0.1, gamma=0.0), (0, 1)))
doubled = jax.jit(lambda c, r: sl.simpo_loss(c, r, gamma=0.0))
bradley_terry = jax.jit(sl.bradley_terry_loss)
kto = jax.jit(sl.kto_loss)
orpo = jax.jit(sl.orpo_loss)


def float32(numbers):
    return [np.float32(a) for a in numbers]


@pytest.mark.parametrize("none", [(True, False), (False, True), (True, True)])
def test_an_answer_that_policy_and_reference_rule_out(none):
    """It counts for neither, as if both gave it any one log-probability."""
    c, r = (-jnp.inf if out else p for out, p in zip(none, (-3.0, -2.0), strict=True))
    p, q = (-jnp.inf if out else p for out, p in zip(none, (-4.0, -5.0), strict=True))
    h = (0 if none[0] else 1.0) - (0 if none[1] else 3.0)
    np.testing.assert_allclose(sl.dpo_loss(c, r, p, q), np.log1p(np.exp(-0.1 * h)), rtol=1e-6)
    np.testing.assert_allclose(sl.ipo_loss(c, r, p, q), (h - 5) ** 2, rtol=1e-6)


@given(st.tuples(far, far, far, far) | answers)
def test_the_lead_is_rounded_once(logps):
    c, r, p, q = map(Fraction, logps)
    np.testing.assert_allclose(lead(*float32(logps)), float((c - r) - (p - q)), rtol=0.51 * EPS, atol=1e-37)


@given(st.tuples(largest, largest, largest, largest))
def test_no_finite_answers_lead_by_nan(logps):
    loss, slopes = dpo(*float32(logps))
    assert loss >= 0
    assert np.all(np.isfinite(slopes))


@given(answers)
def test_the_other_preference(logps):
    """With the answers swapped, h changes its sign: l(-h) - l(h) = beta h, and the slopes make up beta."""
    c, r, p, q = float32(logps)
    (loss, slopes), (other, turned) = dpo(c, r, p, q), dpo(r, c, q, p)
    z = 0.1 * float(lead(c, r, p, q))
    close(float(other) - float(loss), z, 4, 4 * EPS * max(1, float(loss), float(other)))
    close(np.float64(slopes[0]) + np.float64(turned[0]), -0.1, 2)
    np.testing.assert_array_equal(slopes, np.multiply(slopes[0], [1, -1, -1, 1]))


@given(st.tuples(far, far) | st.tuples(st.just(-np.inf) | long, long))
def test_one_loss_under_four_names(pair):
    """DPO beside a reference that prefers none is SimPO without margin, which is Bradley and Terry's of the rewards."""
    c, r = float32(pair)
    zero = np.float32(0)
    (loss, slopes), (alone, slopes_alone) = dpo(c, r, zero, zero), simpo(c, r)
    np.testing.assert_array_equal([loss, *slopes[:2]], [alone, *slopes_alone])
    close(doubled(c, r), bradley_terry(2 * c, 2 * r), 1)


@given(answers, st.floats(0, 100, width=32))
def test_desirable_or_not(logps, kl):
    p, q, *_ = float32(logps)
    close(float(kto(p, q, True, kl=kl)) + float(kto(p, q, False, kl=kl)), 1, 1)
    close(kto(p, q, True, kl=kl), float(kto(q, p, False, kl=-kl)), 0)


@given(st.floats(-80, -(2.0**-60), width=32), st.floats(-80, -(2.0**-60), width=32))
def test_odds(c, r):
    """Never below the loss of the chosen answer; the more odds it has, the nearer to it."""
    c, r = float32((c, r))
    loss = float(orpo(c, r))
    assert loss >= -c
    assert loss <= (-c + 0.1 * np.log(2)) * (1 + 4 * EPS) or c < r
    losses = [float(orpo(c, x)) for x in float32((-100, -10, -1, -0.1, -1e-6))]
    assert np.all(np.diff(losses) >= -EPS * np.abs(losses[1:]))
