"""The losses on answers that are preferred or not. The options of rows have values that every float type holds exactly,
those of the plain rows are the defaults."""

from functools import partial
from math import inf, nan

import jax.numpy as jnp
import numpy as np

from stablelogits_jax.verify._elementwise_specs import sigmoid
from stablelogits_jax.verify._grids import exp2, generator, plane, power, unflushed
from stablelogits_jax.verify._oracle import exp, log
from stablelogits_jax.verify._scales import tail
from stablelogits_jax.verify._spec import Limit, Spec

BETA, ODDS_BETA, SCALE, GAMMA = 0.1, 0.1, 2.0, 1.0  # the defaults
SMOOTHING, MARGIN, KL, DESIRABLE, UNDESIRABLE = 0.125, 1.5, 2.5, 0.75, 1.25
ANSWERS = 256

# Formulas -----------------------------------------------------------------------------------------------------------


def surprise(z, smoothing=0.0):
    return (1 - smoothing) * log(1 + exp(-z)) + smoothing * log(1 + exp(z))


def lead(a, b, c, d):
    return (a - b) - (c - d)


def debiased(z, smoothing):
    return ((1 - smoothing) * surprise(z) - smoothing * surprise(-z)) / (1 - 2 * smoothing)


def identity(h, beta):
    distance = h - 1 / (2 * beta)
    return distance * distance


def odds_ratio(c, r, beta):
    ours, theirs = exp(c) * (1 - exp(r)), exp(r) * (1 - exp(c))
    return beta * log(1 + theirs / ours) - c


def prospect(p, q, desirable, kl=0.0, beta=BETA, weights=(1.0, 1.0)):
    z = beta * ((p - q) - kl)
    return weights[0] * sigmoid(-z) if desirable else weights[1] * sigmoid(z)


# Grids --------------------------------------------------------------------------------------------------------------


def alive(dtype, z):
    return unflushed(dtype, np.abs(z))


def leads(dtype, beta=1.0, margin=0.0):
    """Pairs of rewards or log-probabilities."""

    def keep(a, b):
        with np.errstate(over="ignore"):
            h = a - b
            return alive(dtype, beta * h - margin) & (np.abs(h) > 16 * float(jnp.finfo(dtype).tiny))

    return plane(dtype, keep)


def judged(dtype, kl=0.0):
    """Log-probabilities by policy and reference, and whether the answer is desirable."""
    p, q = leads(dtype, BETA, BETA * kl)
    return p, q, generator().random(p.size) < 0.5


def odds(dtype):
    """Mean log-probabilities, from those of p that are 0 to those of p that round to 1, above which the odds ratio's
    part would be flushed."""
    nearest = -(2.0**30) * float(np.finfo(np.float64 if jnp.dtype(dtype).itemsize == 8 else np.float32).tiny)

    def keep(c, r):
        return (c < nearest) & (r < nearest) & alive(dtype, c - r) & alive(dtype, c) & alive(dtype, r)

    return plane(dtype, keep)


def answers(dtype):
    """Four log-probabilities of long answers: a policy near its reference, apart from it, and of all sizes."""
    rng, info = generator(), jnp.finfo(dtype)
    n = 4 * ANSWERS
    base = -power(10, rng.uniform(-1, 4, (n, 1))) * rng.uniform(0.5, 1, (n, 2))
    near = np.concatenate([base, base], 1) * (1 + exp2(-rng.uniform(0, info.nmant + 2, (n, 4))) * rng.normal(size=4))
    apart = -rng.uniform(0, 200, (n, 4))
    sizes = -exp2(rng.uniform(info.minexp + 8, info.maxexp - 4, (n, 4)))
    level = np.round(near[:, [0, 0, 2, 2]])
    columns = np.choose(np.arange(n)[:, None] % 8, [near, near, near, near, apart, apart, sizes, level]).astype(dtype)
    h = lead(*columns.astype(np.longdouble).T).astype(np.float64)
    kept = alive(dtype, BETA * h) & ((h == 0) | (np.abs(h) > 16 * float(info.tiny)))
    return tuple(np.ascontiguousarray(column) for column in columns[kept][:ANSWERS].T)


# Scales -------------------------------------------------------------------------------------------------------------


def inherited(z):
    """A result like exp(-z), with z a rounded product of a rounded difference, inherits their rounding: softplus(-z)
    and sigmoid(-z) where z is above 0, the slopes of a sigmoid on both sides."""

    def scale(truth, z):
        return np.abs(truth) * np.maximum(1, z).reshape(-1, *(1,) * (truth.ndim - 1))

    return lambda truth, *args: scale(truth, z(*args)), lambda truth, *args: scale(truth, np.abs(z(*args)))


def score(a, b, c=0.0, d=0.0, *, beta=1.0, margin=0.0):
    return beta * lead(a, b, c, d) - margin


def surprises(**options):
    ahead, either = inherited(partial(score, **options))
    return ahead, ahead, either


def doubts(kl=0.0):
    ahead, either = inherited(lambda p, q, good: np.where(good, 1, -1) * BETA * ((p - q) - kl))
    return ahead, either, either


def in_odds(truth, *_):
    """The same of a difference of log-odds or of log-probabilities, in what has beta as a factor and is below it."""
    return ODDS_BETA * tail(np.minimum(np.abs(truth) / ODDS_BETA, 1))


def smoothed_slope(truth, *_, beta):
    """For beta (sigmoid(-z) - s), which crosses zero where the two are equal."""
    return np.full_like(truth, beta * SMOOTHING)


def debiased_value(truth, *logps):
    """For softplus(-z) - z s / (1 - 2 s), which crosses zero where the two are equal."""
    return np.abs(BETA * lead(*logps) * SMOOTHING / (1 - 2 * SMOOTHING))[:, None]


def from_goal(*logps):
    """The larger of h and 1 / (2 beta), of which one is taken from the other after both are rounded."""
    return np.maximum(np.abs(lead(*logps)), 0.5 / BETA)[:, None]


def identity_value(truth, *logps):
    with np.errstate(over="ignore"):
        return np.sqrt(np.abs(truth)) * from_goal(*logps)


def identity_slope(truth, *logps):
    return 2 * from_goal(*logps)[..., None] * np.ones_like(truth)


def odds_curvature(truth, c, r):
    """In c twice, beta a (sigmoid(d) - p_c a) with a = sigmoid(-d) / (1 - p_c) crosses zero at p_r = 1 / 2."""
    p_c, p_r = np.exp(c - np.maximum(c, r)), np.exp(r - np.maximum(c, r))
    total = p_c * -np.expm1(r) + p_r * -np.expm1(c)
    a, share = p_r / total, p_c * -np.expm1(r) / total
    largest = in_odds(truth)
    largest[:, 0, 0, 0] = np.maximum(largest[:, 0, 0, 0], ODDS_BETA * a * np.maximum(share, np.exp(c) * a))
    return largest


# Rows ---------------------------------------------------------------------------------------------------------------

LOG_2, B = np.log(2), BETA

BRADLEY_TERRY = partial(Spec, "bradley_terry_loss", budget=(2, 2, 3), wrt=(0, 1))
DPO = partial(Spec, "dpo_loss", grid=answers, budget=(4, 4, 2), wrt=(0, 1, 2, 3))
SIMPO = partial(Spec, "simpo_loss", grid=lambda dtype: leads(dtype, SCALE, GAMMA), budget=(2, 2, 3), wrt=(0, 1))
KTO = partial(Spec, "kto_loss", budget=(2, 3, 3), wrt=(0, 1))

PREFERENCES = (
    BRADLEY_TERRY(
        lambda c, r: surprise(c - r),
        leads,
        scale=surprises(),
        limits=(
            Limit((inf, 0), 0, (0, 0)),
            Limit((0, inf), inf, (-1, 1)),
            Limit((-inf, 0), inf, (-1, 1)),
            Limit((inf, inf), LOG_2, (-0.5, 0.5)),
            Limit((-inf, -inf), LOG_2, (-0.5, 0.5)),
            Limit((nan, 0), nan, (nan, nan)),
        ),
    ),
    BRADLEY_TERRY(
        lambda c, r: surprise((c - r) - MARGIN),
        lambda dtype: leads(dtype, 1.0, MARGIN),
        scale=surprises(margin=MARGIN),
        call=lambda f: partial(f, margin=MARGIN),
        options="margin",
    ),
    DPO(
        lambda *logps: surprise(BETA * lead(*logps)),
        budget=(2, 2, 2),
        scale=surprises(beta=BETA),
        limits=(
            Limit((-inf, -1, -1, -1), inf, (-B, B, B, -B)),
            Limit((-1, -inf, -1, -1), 0, (0, 0, 0, 0)),
            Limit((-inf, -inf, -1, -1), LOG_2, (-B / 2, B / 2, B / 2, -B / 2)),
            Limit((-inf, -1, -inf, -1), LOG_2, (-B / 2, B / 2, B / 2, -B / 2)),
            Limit((-1, -1, -1, nan), nan, (nan, nan, nan, nan)),
        ),
    ),
    DPO(
        lambda *logps: surprise(BETA * lead(*logps), SMOOTHING),
        scale=(None, partial(smoothed_slope, beta=BETA), surprises(beta=BETA)[2]),
        call=lambda f: partial(f, label_smoothing=SMOOTHING),
        limits=(
            Limit((-inf, -1, -1, -1), inf, tuple((1 - SMOOTHING) * B * sign for sign in (-1, 1, 1, -1))),
            Limit((-1, -inf, -1, -1), inf, tuple(SMOOTHING * B * sign for sign in (1, -1, -1, 1))),
        ),
        options="label_smoothing",
    ),
    DPO(
        lambda *logps: debiased(BETA * lead(*logps), SMOOTHING),
        budget=(5, 4, 2),
        scale=(debiased_value, None, surprises(beta=BETA)[2]),
        call=lambda f: partial(f, label_smoothing=SMOOTHING, robust=True),
        limits=(
            Limit((-inf, -1, -1, -1), inf, tuple(7 / 6 * B * sign for sign in (-1, 1, 1, -1))),
            Limit((-1, -inf, -1, -1), -inf, tuple(1 / 6 * B * sign for sign in (-1, 1, 1, -1))),
        ),
        options="robust",
    ),
    Spec(
        "ipo_loss",
        lambda *logps: identity(lead(*logps), BETA),
        answers,
        budget=(3, 2, 1),
        wrt=(0, 1, 2, 3),
        scale=(identity_value, identity_slope, None),
        limits=(
            Limit((-inf, -1, -1, -1), inf, (-inf, inf, inf, -inf)),
            Limit((-inf, -inf, -1, -1), 25, (-10, 10, 10, -10)),
            Limit((-1, -inf, -1, -inf), 25, (-10, 10, 10, -10)),
            Limit((-1, -1, nan, -1), nan, (nan, nan, nan, nan)),
        ),
    ),
    SIMPO(
        lambda c, r: surprise(SCALE * (c - r) - GAMMA),
        scale=surprises(beta=SCALE, margin=GAMMA),
        limits=(
            Limit((-inf, -1), inf, (-SCALE, SCALE)),
            Limit((-1, -inf), 0, (0, 0)),
            Limit((nan, -1), nan, (nan, nan)),
        ),
    ),
    SIMPO(
        lambda c, r: surprise(SCALE * (c - r) - GAMMA, SMOOTHING),
        budget=(2, 3, 3),
        scale=(None, partial(smoothed_slope, beta=SCALE), surprises(beta=SCALE, margin=GAMMA)[2]),
        call=lambda f: partial(f, label_smoothing=SMOOTHING),
        limits=(Limit((-1, -inf), inf, (SCALE * SMOOTHING, -SCALE * SMOOTHING)),),
        options="label_smoothing",
    ),
    Spec(
        "orpo_loss",
        lambda c, r: odds_ratio(c, r, ODDS_BETA),
        odds,
        budget=(2, 4, 6),
        wrt=(0, 1),
        scale=(in_odds, in_odds, odds_curvature),
        limits=(
            Limit((-inf, -1), inf, (-1 - ODDS_BETA, ODDS_BETA / (1 - np.exp(-1)))),
            Limit((-1, -inf), 1, (-1, 0)),
            Limit((-inf, -inf), inf, (-1 - ODDS_BETA / 2, ODDS_BETA / 2)),
            Limit((0, -1), 0, (-1 - ODDS_BETA / np.expm1(1), 0)),
            Limit((-1, 0), inf, (-1 - ODDS_BETA / (1 - np.exp(-1)), inf)),
            Limit((0, 0), ODDS_BETA * LOG_2),
            Limit((0.5, -1), nan, (nan, nan)),
            Limit((-1, 0.5), nan, (nan, nan)),
            Limit((nan, -1), nan, (nan, nan)),
            Limit((-1, nan), nan, (nan, nan)),
        ),
    ),
    KTO(
        prospect,
        judged,
        scale=doubts(),
        limits=(
            Limit((-inf, -1, True), 1, (0, 0)),
            Limit((-1, -inf, True), 0, (0, 0)),
            Limit((-1, -inf, False), 1, (0, 0)),
            Limit((-inf, -inf, False), 0.5, (B / 4, -B / 4)),
            Limit((nan, -1, True), nan, (nan, nan)),
        ),
    ),
    KTO(
        partial(prospect, kl=KL, weights=(DESIRABLE, UNDESIRABLE)),
        lambda dtype: judged(dtype, KL),
        budget=(2, 3, 4),
        scale=doubts(KL),
        call=lambda f: partial(f, kl=KL, desirable_weight=DESIRABLE, undesirable_weight=UNDESIRABLE),
        options="kl, weights",
    ),
)
