"""Every numeric option: the call with the option as its last argument, the textbook formula, what comes before it, and
the option."""

from collections.abc import Callable
from typing import Any

import numpy as np
from linear_options import OPTIONS_OF_LINEAR, WEIGHTS, smooth
from mpmath import mpf

import stablelogits_jax as sl
from stablelogits_jax.verify._binary_specs import binary, focal
from stablelogits_jax.verify._categorical_specs import categorical, squared
from stablelogits_jax.verify._contrastive_specs import info_nce, sigmoid_contrastive
from stablelogits_jax.verify._divergence_specs import distillation, js
from stablelogits_jax.verify._modulated_specs import capped, poly
from stablelogits_jax.verify._modulated_specs import focal as modulated_focal
from stablelogits_jax.verify._oracle import exp, log
from stablelogits_jax.verify._preference_specs import debiased, identity, lead, odds_ratio, prospect, surprise

LOGITS = [1.5, -0.75, 4.0]
SHARES = [0.25, 0.625, 0.125]
LOG_PREDICTIONS, LOG_TARGETS = [-0.25, -2.0, -2.5], [-1.25, -0.75, -1.5]
TEACHER = [0.25, -1.5, 2.0]
KEYS = np.array([[1.0, -0.5], [0.75, 1.5]], np.float32)
PAIR = (-1.5, -2.75)
ANSWERS = (-40.0, -42.5, -41.0, -41.75)


OPTIONS: dict[str, tuple[Callable, Callable, tuple, Any]] = {
    "js_divergence, beta": (
        lambda q, t, b: sl.js_divergence(q, t, beta=b),
        js,
        (LOG_PREDICTIONS, LOG_TARGETS),
        0.125,
    ),
    "distillation_loss, temperature": (
        lambda x, t, temperature: sl.distillation_loss(x, t, temperature=temperature),
        distillation,
        (LOGITS, TEACHER),
        2.5,
    ),
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
    "softmax_cross_entropy, soft_cap": (
        lambda x, y, c: sl.softmax_cross_entropy(x, y, soft_cap=c),
        lambda x, y, c: categorical(capped(x, c), y),
        (LOGITS, SHARES),
        2.5,
    ),
    "softmax_cross_entropy_with_integer_labels, soft_cap": (
        lambda x, y, c: sl.softmax_cross_entropy_with_integer_labels(x, y, soft_cap=c),
        lambda x, y, c: categorical(capped(x, c), [mpf(i == y) for i in range(3)]),
        (LOGITS, 1),
        40.0,
    ),
    "softmax_focal_loss, gamma": (
        lambda x, y, g: sl.softmax_focal_loss(x, y, gamma=g),
        modulated_focal,
        (LOGITS, SHARES),
        1.5,
    ),
    "softmax_focal_loss, label_smoothing": (
        lambda x, y, s: sl.softmax_focal_loss(x, y, label_smoothing=s),
        lambda x, y, s: modulated_focal(x, smooth(y, s)),
        (LOGITS, SHARES),
        0.125,
    ),
    "softmax_focal_loss, weights": (
        lambda x, y, w: sl.softmax_focal_loss(x, y, weights=w),
        lambda x, y, w: modulated_focal(x, [a * b for a, b in zip(w, y, strict=True)]),
        (LOGITS, SHARES),
        WEIGHTS,
    ),
    "softmax_focal_loss_with_integer_labels, gamma": (
        lambda x, y, g: sl.softmax_focal_loss_with_integer_labels(x, y, gamma=g),
        lambda x, y, g: modulated_focal(x, [mpf(i == y) for i in range(3)], g),
        (LOGITS, 2),
        0.5,
    ),
    "softmax_focal_loss_with_integer_labels, label_smoothing": (
        lambda x, y, s: sl.softmax_focal_loss_with_integer_labels(x, y, label_smoothing=s),
        lambda x, y, s: modulated_focal(x, smooth([mpf(i == y) for i in range(3)], s)),
        (LOGITS, 2),
        0.125,
    ),
    "softmax_focal_loss_with_integer_labels, weights": (
        lambda x, y, w: sl.softmax_focal_loss_with_integer_labels(x, y, weights=w),
        lambda x, y, w: modulated_focal(x, [a * (i == y) for i, a in enumerate(w)]),
        (LOGITS, 1),
        WEIGHTS,
    ),
    "poly_loss_cross_entropy, epsilon": (sl.poly_loss_cross_entropy, poly, (LOGITS, SHARES), -0.5),
    "info_nce_loss, temperature": (
        lambda q, t: sl.info_nce_loss(q, KEYS, temperature=t),
        lambda q, t: info_nce(q, KEYS.tolist(), t),
        (KEYS[::-1].tolist(),),
        0.625,
    ),
    "sigmoid_contrastive_loss, scale": (
        lambda q, t: sl.sigmoid_contrastive_loss(q, KEYS, scale=t, bias=-1.0),
        lambda q, t: sigmoid_contrastive(q, KEYS.tolist(), t, -1.0),
        (KEYS[::-1].tolist(),),
        2.5,
    ),
    "sigmoid_contrastive_loss, bias": (
        lambda q, b: sl.sigmoid_contrastive_loss(q, KEYS, scale=1.0, bias=b),
        lambda q, b: sigmoid_contrastive(q, KEYS.tolist(), 1.0, b),
        (KEYS[::-1].tolist(),),
        -2.5,
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
    "bradley_terry_loss, margin": (
        lambda c, r, m: sl.bradley_terry_loss(c, r, margin=m),
        lambda c, r, m: surprise((c - r) - m),
        (1.5, -0.75),
        0.625,
    ),
    "simpo_loss, beta": (
        lambda c, r, b: sl.simpo_loss(c, r, beta=b),
        lambda c, r, b: surprise(b * (c - r) - 1),
        PAIR,
        2.5,
    ),
    "simpo_loss, gamma": (
        lambda c, r, g: sl.simpo_loss(c, r, gamma=g),
        lambda c, r, g: surprise(2 * (c - r) - g),
        PAIR,
        0.5,
    ),
    "simpo_loss, label_smoothing": (
        lambda c, r, s: sl.simpo_loss(c, r, label_smoothing=s),
        lambda c, r, s: surprise(2 * (c - r) - 1, s),
        PAIR,
        0.125,
    ),
    "orpo_loss, beta": (lambda c, r, b: sl.orpo_loss(c, r, beta=b), odds_ratio, PAIR, 0.25),
    "dpo_loss, beta": (
        lambda *args: sl.dpo_loss(*args[:4], beta=args[4]),
        lambda *args: surprise(args[4] * lead(*args[:4])),
        ANSWERS,
        0.25,
    ),
    "dpo_loss, label_smoothing": (
        lambda *args: sl.dpo_loss(*args[:4], beta=0.25, label_smoothing=args[4]),
        lambda *args: surprise(0.25 * lead(*args[:4]), args[4]),
        ANSWERS,
        0.125,
    ),
    "dpo_loss, robust": (
        lambda *args: sl.dpo_loss(*args[:4], beta=0.25, label_smoothing=args[4], robust=True),
        lambda *args: debiased(0.25 * lead(*args[:4]), args[4]),
        ANSWERS,
        0.125,
    ),
    "ipo_loss, beta": (
        lambda *args: sl.ipo_loss(*args[:4], beta=args[4]),
        lambda *args: identity(lead(*args[:4]), args[4]),
        ANSWERS,
        0.25,
    ),
    "kto_loss, kl": (
        lambda p, q, d, z: sl.kto_loss(p, q, d, kl=z, beta=0.25),
        lambda p, q, d, z: prospect(p, q, d, z, 0.25),
        (*PAIR, True),
        0.5,
    ),
    "kto_loss, beta": (
        lambda p, q, d, b: sl.kto_loss(p, q, d, beta=b),
        lambda p, q, d, b: prospect(p, q, d, 0, b),
        (*PAIR, False),
        0.25,
    ),
    "kto_loss, desirable_weight": (
        lambda p, q, d, w: sl.kto_loss(p, q, d, beta=0.25, desirable_weight=w),
        lambda p, q, d, w: prospect(p, q, d, 0, 0.25, (w, 1)),
        (*PAIR, True),
        0.75,
    ),
    "kto_loss, undesirable_weight": (
        lambda p, q, d, w: sl.kto_loss(p, q, d, beta=0.25, undesirable_weight=w),
        lambda p, q, d, w: prospect(p, q, d, 0, 0.25, (1, w)),
        (*PAIR, False),
        0.75,
    ),
    "masked_mean, weights": (
        lambda loss, w: sl.masked_mean(loss, weights=w),
        lambda loss, w: sum(a * b for a, b in zip(loss, w, strict=True)) / sum(w),
        (LOGITS,),
        WEIGHTS,
    ),
} | OPTIONS_OF_LINEAR
