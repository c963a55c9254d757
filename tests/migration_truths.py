"""Extreme arguments under the names of docs/migration.md, and the textbook formulas of its calls that have options."""

from collections.abc import Callable
from typing import Any

import numpy as np
from mpmath import mpf

from stablelogits_jax.verify._binary_specs import binary, focal
from stablelogits_jax.verify._categorical_specs import WEIGHTS, categorical, one_hot, squared, weighted
from stablelogits_jax.verify._contrastive_specs import info_nce, sigmoid_contrastive
from stablelogits_jax.verify._divergence_specs import distillation, generalized, js, kl
from stablelogits_jax.verify._modulated_specs import capped, ordinal, poly
from stablelogits_jax.verify._modulated_specs import focal as softmax_focal
from stablelogits_jax.verify._oracle import exp, log, power, value_of
from stablelogits_jax.verify._preference_specs import identity, lead, odds_ratio, prospect, surprise
from stablelogits_jax.verify._row_specs import log_probabilities

V, T, SMOOTHING = (0.5, 1.0, 2.0, 1.0), 2.0, mpf("0.1")  # as on the page, whose w is WEIGHTS
CUTPOINTS, HALF, BETA = (-1.0, 0.5), mpf("0.5"), mpf("0.1")
LOW, HIGH = (float(np.float32(bound)) for bound in (1e-6, 1 - 1e-6))


def numbers(*values: Any) -> np.ndarray:
    return np.array(values, np.float32)


EXTREME = {
    "x": numbers(-80, -20, 20, 100),
    "z": numbers(-30, 30, -10, 0.5),
    "y": numbers(1, 0, 1, 0.25),
    "signs": numbers(-1, 1, 1, -1),
    "p": numbers(1e-30, 1e-5, 0.9999999, 0.75),
    "q": numbers(1e-10, 0.9999, 1e-20, 0.25),
    "logits": numbers((20, 0, -5), (-60, 10, 40), (40, -40, -80), (0.5, -30, 30)),
    "teacher": numbers((-5, 0, 20), (0, 0, -30), (-40, 40, 0), (50, 0, -10)),
    "labels": np.array((0, 1, 2, 0), np.int32),
    "padded": np.array((0, -100, 2, 0), np.int32),
    "targets": numbers((1, 0, 0), (0, 1, 0), (0.5, 0.5, 0), (0.25, 0.5, 0.25)),
    "guesses": numbers((1, 1e-30, 1e-10), (0.25, 0.75, 1e-20), (0.9999999, 1e-7, 1e-15), (1e-5, 0.5, 0.5)),
    "log_q": numbers((-0.25, -14, -20), (-30, -0.5, -1), (-80, -50, 0), (-1, -2, -0.7)),
    "log_p": numbers((-40, -1e-5, -12), (-1, -3, -0.5), (-0.25, -2, -3), (0, -60, -40)),
    "maps": numbers(((20, -60), (0, 10), (-5, 40)), ((40, 0.5), (-40, -30), (-80, 30))),
    "images": numbers((8, 1), (-8, 4), (0.5, -16), (4, 4)),
    "texts": numbers((2, 0), (0, 8), (1, -1), (-2, 4)),
    "chosen": numbers(-40, -1, -0.5, -60),
    "rejected": numbers(-1, -90, -0.25, -50),
    "ref_chosen": numbers(-1, -40, -0.5, -20),
    "ref_rejected": numbers(-60, -1, -2, -20),
    "desirable": np.array((True, False, True, False)),
    "hidden": numbers((8, 1), (-8, 4), (0.5, -16), (4, 4)),
    "head": numbers((2, 0), (0, 4), (-1, 1)),
    "map_labels": np.array(((0, 1), (2, 0)), np.int32),
}


def each(formula: Callable, *constants: tuple) -> Callable:
    """From the formula of one example to that of a batch; the constants have an entry for each example."""
    return lambda *columns: [formula(*example) for example in zip(*columns, *constants, strict=True)]


def smoothed(shares):
    return [(1 - SMOOTHING) * a + SMOOTHING / len(shares) for a in shares]


def surprisal(x, label):
    return -log_probabilities(x)[label]


def mean_weighted_by_class(formula: Callable) -> Callable:
    """PyTorch's: the sum of the weighted losses over that of the labels' weights."""
    return lambda logits, labels: sum(each(formula)(logits, labels)) / sum(WEIGHTS[label] for label in labels)


def mean_without_padding(formula: Callable) -> Callable:
    def mean(logits, labels):
        losses = [formula(x, label) for x, label in zip(logits, labels, strict=True) if label != -100]
        return sum(losses) / len(losses)

    return mean


def mean_weighted_without_padding(logits, labels):
    kept = [(x, label) for x, label in zip(logits, labels, strict=True) if label != -100]
    return sum(WEIGHTS[label] * surprisal(x, label) for x, label in kept) / sum(WEIGHTS[label] for _, label in kept)


def of_maps(maps, labels):
    """A loss for each pixel; the classes are on the first axis of a map."""
    pixels = ((x, label) for map_, row in zip(maps, labels, strict=True) for *x, label in zip(*map_, row, strict=True))
    return [surprisal(x, label) for x, label in pixels]


def entropy(p):
    return -sum(a * log(a) for a in p)


def bernoulli_entropy(x):
    return log(1 + exp(-x)) / (1 + exp(-x)) + log(1 + exp(x)) / (1 + exp(x))


def of_states(hidden, head):
    return [[sum(a * b for a, b in zip(h, w, strict=True)) for w in head] for h in hidden]


def clipped_logit(p):
    inside = min(max(value_of(p), LOW), HIGH)
    p = p if inside == value_of(p) else mpf(inside)
    return log(p / (1 - p))


INTEGER = "sl.softmax_cross_entropy_with_integer_labels"

TRUTHS = {
    "sl.sigmoid_binary_cross_entropy(x, y, pos_weight=3.0)": each(lambda x, y: binary(x, y, 3)),
    "sl.sigmoid_binary_cross_entropy(x, y, pos_weight=v)": each(binary, V),
    "sl.sigmoid_binary_cross_entropy(x, y, label_smoothing=0.1)": each(
        lambda x, y: binary(x, (1 - SMOOTHING) * y + SMOOTHING / 2)
    ),
    "(v * sl.sigmoid_binary_cross_entropy(x, y, pos_weight=3 * v))": each(lambda x, y, v: v * binary(x, y, 3 * v), V),
    "(v * sl.sigmoid_binary_cross_entropy(x, y))": each(lambda x, y, v: v * binary(x, y), V),
    "sl.sigmoid_binary_cross_entropy(sl.logit(p), y)": each(lambda p, y: -(y * log(p) + (1 - y) * log(1 - p))),
    "sl.sigmoid_focal_loss(x, y, gamma=2.0)": each(focal),
    "sl.sigmoid_focal_loss(x, y, alpha=0.25)": each(lambda x, y: (0.75 - 0.5 * y) * focal(x, y)),
    "sl.sigmoid_focal_loss(x, y, alpha=0.25, gamma=2.0)": each(lambda x, y: (0.75 - 0.5 * y) * focal(x, y)),
    "sl.log_cosh(x, z)": each(lambda x, z: log((exp(x - z) + exp(z - x)) / 2)),
    "sl.softplus(-signs * x)": each(lambda sign, x: log(1 + exp(-sign * x))),
    "sl.softplus(2.0 * x) / 2.0": each(lambda x: log(1 + exp(2 * x)) / 2),
    "sl.logit(jnp.clip(p, 1e-6, 1 - 1e-6))": each(clipped_logit),
    "sl.entr(guesses).sum(-1)": each(entropy),
    "(v * sl.softmax_cross_entropy(logits, targets))": each(lambda x, y, v: v * categorical(x, y), V),
    f"(v * {INTEGER}(logits, labels))": each(lambda x, label, v: v * surprisal(x, label), V),
    "-sl.xlogy(targets, guesses).sum(-1)": each(lambda y, p: -sum(a * log(b) for a, b in zip(y, p, strict=True))),
    f"{INTEGER}(jnp.log(guesses), labels)": each(lambda p, label: surprisal([log(a) for a in p], label)),
    "sl.softmax_cross_entropy(logits, targets, label_smoothing=0.1)": each(lambda x, y: categorical(x, smoothed(y))),
    "sl.softmax_cross_entropy(logits, targets, weights=w)": each(lambda x, y: categorical(x, weighted(y))),
    "0.25 * sl.softmax_focal_loss(logits, targets, gamma=2.0)": each(lambda x, y: 0.25 * softmax_focal(x, y)),
    "sl.poly_loss_cross_entropy(logits, targets, epsilon=2.0)": each(poly),
    "sl.smooth_labels(targets, 0.1)": lambda targets: [a for y in targets for a in smoothed(y)],
    "sl.softmax_focal_loss_with_integer_labels(logits, labels, gamma=2.0)": each(
        lambda x, label: softmax_focal(x, one_hot(label))
    ),
    "sl.log_cosh(x - z)": each(lambda x, z: log((exp(x - z) + exp(z - x)) / 2)),
    "sl.sigmoid_binary_cross_entropy(logits, targets)": lambda logits, targets: [
        loss for x, y in zip(logits, targets, strict=True) for loss in each(binary)(x, y)
    ],
    "sl.ordinal_cross_entropy(x, labels, cutpoints)": each(lambda x, label: ordinal(x, label, CUTPOINTS)),
    "sl.info_nce_loss(images, texts, temperature=T)": lambda images, texts: info_nce(images, texts, T),
    f"{INTEGER}(maps, map_labels, axis=1)": of_maps,
    f"{INTEGER}(logits, labels, weights=w)": each(lambda x, label: WEIGHTS[label] * surprisal(x, label)),
    f"{INTEGER}(logits, labels, label_smoothing=0.1)": each(lambda x, label: categorical(x, smoothed(one_hot(label)))),
    f"{INTEGER}(logits, labels, weights=w, label_smoothing=0.1).sum() / w[labels].sum()": mean_weighted_by_class(
        lambda x, label: categorical(x, weighted(smoothed(one_hot(label))))
    ),
    f"sl.masked_mean({INTEGER}(logits, labels), weights=w[labels])": mean_weighted_by_class(
        lambda x, label: WEIGHTS[label] * surprisal(x, label)
    ),
    f"sl.masked_mean({INTEGER}(logits, padded, ignore_index=-100), where=padded != -100)": mean_without_padding(
        surprisal
    ),
    f"sl.masked_mean({INTEGER}(logits, padded, ignore_index=-100, label_smoothing=0.1), where=padded != -100)": (
        mean_without_padding(lambda x, label: categorical(x, smoothed(one_hot(label))))
    ),
    f"sl.masked_mean({INTEGER}(logits, padded, ignore_index=-100), where=padded != -100, weights=w[padded])": (
        mean_weighted_without_padding
    ),
    "sl.kl_divergence(log_q, targets)": each(kl),
    "sl.kl_divergence(log_q, targets).mean() / log_q.shape[-1]": lambda log_q, targets: (
        sum(each(kl)(log_q, targets)) / sum(len(row) for row in log_q)
    ),
    "sl.generalized_kl_divergence(log_q, targets)": each(generalized),
    "sl.convex_kl_divergence(log_q, targets)": each(generalized),
    "sl.distillation_loss(logits, teacher, temperature=T)": each(lambda x, teacher: distillation(x, teacher, T)),
    "-sl.sigmoid_binary_cross_entropy(x, y)": each(lambda x, y: -binary(x, y)),
    "sl.entropy_from_logits(jnp.stack([x, 0 * x], -1))": each(bernoulli_entropy),
    "sl.softmax(-logits)": lambda logits: [exp(a) for x in logits for a in log_probabilities([-a for a in x])],
    f"{INTEGER}(logits, labels).sum()": lambda logits, labels: sum(each(surprisal)(logits, labels)),
    f"{INTEGER}(logits, labels, z_loss=1e-4)": each(lambda x, label: surprisal(x, label) + mpf(1e-4) * squared(x)),
    f"{INTEGER}(logits, labels, soft_cap=10.0)": each(lambda x, label: surprisal(capped(x, 10), label)),
    "sl.linear_softmax_cross_entropy(hidden, head, labels, vocab_axis=0)": lambda hidden, head, labels: each(surprisal)(
        of_states(hidden, head), labels
    ),
    "sl.bradley_terry_loss(chosen, rejected, margin=0.5)": each(lambda c, r: surprise(c - r - 0.5)),
    "sl.dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=0.1)": each(
        lambda *logps: surprise(BETA * lead(*logps))
    ),
    "sl.dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=0.1, label_smoothing=0.1)": each(
        lambda *logps: (1 - SMOOTHING) * surprise(BETA * lead(*logps)) + SMOOTHING * surprise(-BETA * lead(*logps))
    ),
    "sl.dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=0.1, label_smoothing=0.1, robust=True)": each(
        lambda *logps: (
            ((1 - SMOOTHING) * surprise(BETA * lead(*logps)) - SMOOTHING * surprise(-BETA * lead(*logps)))
            / (1 - 2 * SMOOTHING)
        )
    ),
    "sl.simpo_loss(chosen, rejected, beta=0.1, gamma=0.0)": each(lambda c, r: surprise(BETA * (c - r))),
    "sl.ipo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=0.1)": each(
        lambda *logps: identity(lead(*logps), BETA)
    ),
    "sl.simpo_loss(chosen, rejected, beta=2.0, gamma=1.0)": each(lambda c, r: surprise(2 * (c - r) - 1)),
    "sl.orpo_loss(chosen, rejected, beta=0.1)": each(lambda c, r: odds_ratio(c, r, BETA)),
    "sl.kto_loss(chosen, ref_chosen, desirable, beta=0.1)": each(prospect),
    "sl.sigmoid_contrastive_loss(images, texts, scale=10.0, bias=-10.0)": lambda images, texts: sigmoid_contrastive(
        images, texts, 10, -10
    ),
    "jnp.sqrt(sl.js_divergence(log_q, log_p))": each(lambda log_q, log_p: power(js(log_q, log_p, HALF), HALF)),
}
