"""The divergences between two distributions, one of three classes or one of two. Options are powers of two."""

from functools import partial
from math import inf, nan

import numpy as np
from mpmath import mpf

from stablelogits_jax.verify._divergence_grids import (
    logits_of_both,
    masked,
    not_equal,
    some_absent,
    two_distributions,
    two_logits,
    with_targets,
    with_temperatures,
    with_weights,
)
from stablelogits_jax.verify._divergence_scales import (
    bernoulli_curvature,
    distillation_curvature,
    distillation_slope,
    distillation_value,
    generalized_slope,
    generalized_value,
    in_predictions,
    js_curvature,
    kl_slope,
    kl_value,
    logs_curvature,
    logs_slope,
    logs_value,
    matching_slope,
    weighted_js_curvature,
    weighted_js_slope,
)
from stablelogits_jax.verify._elementwise_specs import sigmoid
from stablelogits_jax.verify._oracle import exp, log, value_of
from stablelogits_jax.verify._row_specs import ABSENT, CLASSES, ZEROS, divergence, kept, two_rows
from stablelogits_jax.verify._spec import Limit, Spec

# Formulas -----------------------------------------------------------------------------------------------------------


def kl(log_q, t):
    return sum((b * (log(b) - a) for a, b in zip(log_q, t, strict=True) if value_of(b) > 0), mpf(0))


def kl_of_logs(log_q, log_t):
    there = ((a, b) for a, b in zip(log_q, log_t, strict=True) if value_of(b) > -inf)
    return sum((exp(b) * (b - a) for a, b in there), mpf(0))


def generalized(log_q, t):
    return kl(log_q, t) + sum(exp(a) - b for a, b in zip(log_q, t, strict=True))


def js(log_q, log_t, beta):
    total = mpf(0)
    for a, b in zip(log_q, log_t, strict=True):
        m = log(beta * exp(b) + (1 - beta) * exp(a))
        total += beta * exp(b) * (b - m) + (1 - beta) * exp(a) * (a - m)
    return total


def bernoulli(x, y):
    def to(a, b):
        return sigmoid(a) * (log(1 + exp(-b)) - log(1 + exp(-a)))

    return to(x, y) + to(-x, -y)


def distillation(x, t, temperature=1.0):
    x, t = ([a / temperature for a in row] for row in (x, t))
    return temperature * temperature * divergence(t, x)


def matching(x, t):
    d = [a - b for a, b in zip(x, t, strict=True) if value_of(a) > -inf]
    mean = sum(d) / len(d)
    return sum((a - mean) * (a - mean) for a in d) / (2 * len(d))


# Rows ---------------------------------------------------------------------------------------------------------------

LOG_2 = float(np.log(2.0))
HALVES = (0.5, 0.5, 0)
NEVER = (-1, -1, -inf)  # log-predictions of which the last is absent
UNSAID = (None,) * CLASSES
WHERE = {"options": "where", "call": lambda f: lambda x, y, where: f(x, y, where=where), "wrt": (0,)}
OTHERS_LOST = (
    Limit(((-1, -1, -1), (0.5, nan, 0)), nan),
    Limit(((nan, -1, -1), (0, 1, 0)), nan),
    Limit(((-1, -1, -1), (-0.5, 1, 0)), nan),
)


def masked_rows(scale):
    """A scale over the kept classes: nothing is added by the others."""
    return lambda truth, x, y, where: scale(truth, np.where(where, x, 0), np.where(where, y, 0))


DENSE = partial(Spec, wrt=(0, 1), budget=(4, 4, 8))


def of_kept(formula):
    return lambda x, y, where: formula(*kept(where, x, y))


DIVERGENCES = (
    DENSE(
        "kl_divergence",
        kl,
        with_targets,
        scale=(kl_value, kl_slope, None),
        limits=(
            Limit((NEVER, HALVES), 1 - LOG_2, (-0.5, -0.5, 0, 2 - LOG_2, 2 - LOG_2, 0)),
            Limit((NEVER, (1, 0, 0)), 1, (-1, 0, 0, *UNSAID)),
            Limit((NEVER, (0.5, 0, 0.5)), inf, (-0.5, 0, -0.5, *UNSAID)),
            *OTHERS_LOST,
        ),
        peer="optax.losses.kl_divergence",
    ),
    DENSE(
        "kl_divergence",
        of_kept(kl),
        masked(some_absent(with_targets, 0)),
        scale=(masked_rows(kl_value), None, None),
        **WHERE,
    ),
    DENSE(
        "kl_divergence_with_log_targets",
        kl_of_logs,
        two_distributions,
        scale=(logs_value, logs_slope, logs_curvature),
        limits=(
            Limit((NEVER, (0, -inf, -inf)), 1, (-1, 0, 0, 2, 0, 0)),
            Limit((NEVER, (-inf, -inf, 0)), inf, (0, 0, -1, *UNSAID)),
            Limit((NEVER, (-1, -1, -1)), inf, None),
            Limit(((-1, -1, -1), (0, nan, 0)), nan),
            Limit(((-1, nan, -1), (0, -inf, 0)), nan),
        ),
        peer="optax.losses.kl_divergence_with_log_targets",
    ),
    DENSE(
        "kl_divergence_with_log_targets",
        of_kept(kl_of_logs),
        masked(some_absent(two_distributions, -inf)),
        scale=(masked_rows(logs_value), None, None),
        **WHERE,
    ),
    DENSE(
        "generalized_kl_divergence",
        generalized,
        not_equal,
        scale=(generalized_value, generalized_slope, None),
        limits=(
            Limit(((0, 0, -inf), (1, 1, 0)), 0, ZEROS + ZEROS),
            Limit(((0, 0, -inf), (1, 0, 0)), 1, (0, 1, 0, *UNSAID)),
            Limit(((0, 0, -inf), (1, 1, 0.5)), inf, (0, 0, -0.5, *UNSAID)),
            Limit(((0, inf, 0), (1, 1, 0)), inf, None),
            *OTHERS_LOST,
        ),
        peer="optax.losses.generalized_kl_divergence",
    ),
    DENSE(
        "generalized_kl_divergence",
        of_kept(generalized),
        masked(some_absent(not_equal, 0)),
        scale=(masked_rows(generalized_value), masked_rows(in_predictions(generalized_slope)), None),
        **WHERE,
    ),
    DENSE(
        "convex_kl_divergence",
        generalized,
        some_absent(not_equal, 0),
        wrt=(0,),
        scale=(generalized_value, in_predictions(generalized_slope), None),
        peer="optax.losses.generalized_kl_divergence",
    ),
    DENSE(
        "js_divergence",
        partial(js, beta=0.5),
        two_distributions,
        scale=(None, None, js_curvature),
        limits=(
            Limit(((0, -inf, -inf), (-inf, 0, -inf)), LOG_2, (0.5 * LOG_2, 0, 0, 0, 0.5 * LOG_2, 0)),
            Limit((NEVER, NEVER), 0, ZEROS + ZEROS),
            Limit(((0, nan, 0), (0, 0, 0)), nan),
            Limit(((0, -inf, 0), (0, nan, 0)), nan),
        ),
    ),
    DENSE(
        "js_divergence",
        js,
        with_weights,
        budget=(8, 8, 12),  # a weight that is small beside exp(d) sees what is rounded off d
        wrt=(0, 1, 2),
        scale=(None, weighted_js_slope, weighted_js_curvature),
        call=lambda f: lambda log_q, log_t, beta: f(log_q, log_t, beta=beta),
        limits=(
            Limit(((-inf, 0, -inf), (0, -inf, -inf), 0.5), LOG_2, (0, 0.5 * LOG_2, 0, 0.5 * LOG_2, 0, 0, 0)),
            Limit((NEVER, NEVER, 0.25), 0, ZEROS + ZEROS + (0,)),
            Limit(((-1, -1, -1), (0, 0, -inf), 0), 0, ZEROS + ZEROS + (3 * np.exp(-1),)),
            Limit(((0, 0, -inf), (-1, -1, -1), 1), 0, ZEROS + ZEROS + (-3 * np.exp(-1),)),
            Limit((NEVER, NEVER, nan), nan),
        ),
        options="beta",
    ),
    DENSE(
        "js_divergence",
        of_kept(partial(js, beta=0.5)),
        masked(two_distributions),
        scale=(None, None, masked_rows(lambda *args: js_curvature(*args)[..., :CLASSES, :CLASSES])),
        **WHERE,
    ),
    DENSE(
        "bernoulli_kl_from_logits",
        bernoulli,
        two_logits,
        budget=(6, 4, 8),  # the square of a logarithm doubles its roundings
        scale=(None, None, bernoulli_curvature),
        limits=(
            Limit((inf, inf), 0, (0, 0)),
            Limit((-inf, -inf), 0, (0, 0)),
            Limit((inf, 0), LOG_2, (0, -0.5)),
            Limit((-inf, 0), LOG_2, (0, 0.5)),
            Limit((inf, -inf), inf, (0, -1)),
            Limit((0, inf), inf, (None, 0.5)),
            Limit((200, -inf), inf, None),
            Limit((nan, 0), nan, (nan, nan)),
            Limit((inf, nan), nan),
        ),
    ),
    DENSE(
        "distillation_loss",
        distillation,
        two_rows,
        budget=(6, 8, 16),
        scale=(distillation_value, distillation_slope, distillation_curvature),
        limits=(
            Limit((ABSENT, ABSENT), 0, ZEROS + ZEROS),
            Limit(((0, 0, 0), ABSENT), 0, ZEROS + ZEROS),
            Limit((ABSENT, (0, 0, 0)), inf),
            Limit(((0, 0, 0), (0, 0, -inf)), np.log(1.5)),
            Limit(((0, 0, -inf), (0, 0, 0)), inf),
            Limit(((0, nan, 0), (0, 0, 0)), nan),
        ),
    ),
    DENSE(
        "distillation_loss",
        distillation,
        with_temperatures,
        budget=(6, 4, 4),  # the value as that of `kl_from_logits`
        call=lambda f: lambda x, t, temperature: f(x, t, temperature=temperature),
        scale=(distillation_value, distillation_slope, distillation_curvature),
        limits=(
            Limit(((2, 0, 1), (0, 0, 0), inf), 1 / 3, (1 / 3, -1 / 3, 0, -1 / 3, 1 / 3, 0)),
            Limit(((0, 1, -inf), (0, 2, -inf), inf), 1 / 8, (1 / 4, -1 / 4, 0, -1 / 4, 1 / 4, 0)),
            Limit(((0, 1, 2), (0, 1, -inf), inf), inf),
            Limit(((0, 1, -inf), (0, 1, 2), inf), inf),
            Limit(((0, 1, 2), ABSENT, inf), 0, ZEROS + ZEROS),
            Limit(((2, 0, 1), (0, 0, 0), nan), nan),
        ),
        options="temperature",
    ),
    DENSE(
        "logit_matching_loss",
        matching,
        logits_of_both,
        scale=(None, matching_slope, None),
        limits=(
            Limit((ABSENT, ABSENT), 0, ZEROS + ZEROS),
            Limit(((3, 1, -inf), (0, 0, -inf)), 0.5, (0.5, -0.5, 0, -0.5, 0.5, 0)),
            Limit(((inf, 1, 1), (inf, 0, 1)), 1 / 9),
            Limit(((0, 0, 0), (0, 0, -inf)), inf),
            Limit(((0, -inf, 0), (0, 0, -inf)), inf),
            Limit(((0, nan, 0), (0, 0, 0)), nan),
            Limit(((0, -inf, 0), (0, nan, 0)), nan),
        ),
    ),
    DENSE(
        "logit_matching_loss",
        of_kept(matching),
        masked(partial(two_rows, absent=False)),
        scale=(
            None,
            lambda truth, x, t, where: matching_slope(truth, np.where(where, x, -inf), t)[..., :CLASSES],
            None,
        ),
        **WHERE,
    ),
)
