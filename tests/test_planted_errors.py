"""Wrong implementations, through the same checks: the harness must see each of them."""

import jax
import jax.numpy as jnp
import optax
import pytest
from checks import check_accuracy, check_limits, spec_of
from test_fused import check_large_rows
from test_masks import check_masked, check_nan_reaches

import stablelogits_jax as sl


def with_rule(f, slope):
    """`f` with the rule x_dot -> slope(x) x_dot."""
    g = jax.custom_jvp(f)
    g.defjvp(lambda primals, tangents: (g(*primals), slope(*primals) * tangents[0]))
    return g


def log_sum(x):
    """The usual logsumexp of the last axis."""
    top = jnp.max(x, -1)
    return top + jnp.log(jnp.sum(jnp.exp(x - top[..., None]), -1))


def at_label(x, label):
    return jnp.take_along_axis(x, label[..., None], -1)[..., 0]


def softmax_with(mean):
    """Softmax with the rule p (t - mean(p, t))."""

    @jax.custom_jvp
    def softmax(x):
        return sl.softmax(x)

    @softmax.defjvp
    def _(primals, tangents):
        p, t = softmax(*primals), tangents[0]
        return p, p * (t - mean(p, t)[..., None])

    return softmax


def clipped_logit(p):
    eps = float(jnp.finfo(p.dtype).eps)
    return sl.logit(jnp.clip(p, eps, 1 - eps))


def in_float32(f):
    return lambda x: f(x.astype(jnp.float32)).astype(x.dtype)


def in_bfloat16(x):
    return jnp.exp(-jnp.log1p(jnp.exp(-x)))


def dpo_of(lead):
    return lambda *logps: sl.softplus(-0.1 * lead(*(a.astype(jnp.float32) for a in logps)))


def rounded_mixture(log_q, log_t):
    log_m = jnp.logaddexp(log_q, log_t) - jnp.log(2.0)
    return jnp.sum(jnp.exp(log_t) * (log_t - log_m) + jnp.exp(log_q) * (log_q - log_m), -1) / 2


# Each with the row that it claims to fulfil, and a type in which it does not.
INACCURATE = {
    "divergence by cancellation": (
        "generalized_kl_divergence",
        lambda log_q, t: jnp.sum(t * (jnp.log(t) - log_q) + (jnp.exp(log_q) - t), -1),
    ),
    "mixture rounded": ("js_divergence", rounded_mixture),
    "beta on the predictions": ("js_divergence, beta", lambda q, t, beta: sl.js_divergence(t, q, beta=beta)),
    "slope without the target's own": (
        "kl_divergence_with_log_targets",
        lambda q, t: sl.kl_divergence_with_log_targets(q, jax.lax.stop_gradient(t)),
    ),
    "slope of a target without the 1": (
        "kl_divergence",
        lambda q, t: jnp.sum(t * jax.lax.stop_gradient(jnp.log(t)) - t * q, -1),
    ),
    "two cross entropies": (
        "bernoulli_kl_from_logits",
        lambda x, y: (
            sl.sigmoid_binary_cross_entropy(y, sl.sigmoid(x)) - sl.sigmoid_binary_cross_entropy(x, sl.sigmoid(x))
        ),
    ),
    "teacher and student exchanged": ("distillation_loss", lambda x, t: sl.distillation_loss(t, x)),
    "temperature squared forgotten": (
        "distillation_loss, temperature",
        lambda x, t, temperature: sl.kl_from_logits(t / temperature[:, None], x / temperature[:, None]),
    ),
    "mean not taken off": ("logit_matching_loss", lambda x, t: jnp.mean((x - t) ** 2, -1) / 2),
    "difference rounded": (
        "logit_matching_loss",
        lambda x, t: jnp.mean((x - t - jnp.mean(x - t, -1, keepdims=True)) ** 2, -1) / 2,
    ),
    "rule s (1 - s)": ("sigmoid", with_rule(sl.sigmoid, lambda x: sl.sigmoid(x) * (1 - sl.sigmoid(x)))),
    "overflow in the rule": ("sigmoid", lambda x: 1 / (1 + jnp.exp(-x))),
    "second order lost": (
        "sigmoid",
        with_rule(sl.sigmoid, lambda x: sl.sigmoid(x) * jax.lax.stop_gradient(sl.sigmoid(-x))),
    ),
    "four digits too few": ("sigmoid", lambda x: sl.sigmoid(x) * (1 + 2**-20)),
    "float64 by way of float32": ("sigmoid", in_float32(sl.sigmoid), "float64"),
    "steps in bfloat16": ("sigmoid", in_bfloat16, "bfloat16"),
    "tail of softplus lost": ("softplus", lambda x: jnp.log(1 + jnp.exp(x))),
    "tail of log1mexp lost": ("log1mexp", lambda x: jnp.log(1 - jnp.exp(-x))),
    "logit clipped": ("logit", clipped_logit),
    "logit cancels at 1/2": ("logit", lambda p: jnp.log(p) - jnp.log1p(-p)),
    "maximum not subtracted": ("logsumexp", lambda x, axis: jnp.log(jnp.sum(jnp.exp(x), axis))),
    "slope of the other argument": ("logaddexp", lambda a, b: sl.logaddexp(a, jax.lax.stop_gradient(b))),
    "tail of log_softmax lost": ("log_softmax", lambda x: x - log_sum(x)[..., None]),
    "tangent not centred": ("softmax", softmax_with(lambda p, t: jnp.zeros_like(t[..., 0]))),
    "tangent centred at the plain mean": ("softmax", softmax_with(lambda p, t: jnp.mean(t, -1))),
    "tangent centred by cancellation": ("softmax", softmax_with(lambda p, t: jnp.sum(p * t, -1))),
    "tail of the loss lost": (
        "softmax_cross_entropy_with_integer_labels",
        lambda x, label: log_sum(x) - at_label(x, label),
    ),
    "label gradient missing": (
        "softmax_cross_entropy",
        lambda x, y: sl.softmax_cross_entropy(x, jax.lax.stop_gradient(y)),
    ),
    "labels taken to sum to 1": (
        "softmax_cross_entropy",
        lambda x, y: sl.softmax_cross_entropy(x, y / jnp.sum(y, -1, keepdims=True)),
    ),
    "slope as sigmoid minus label": (
        "sigmoid_binary_cross_entropy",
        lambda x, y: jnp.maximum(x, 0) - x * y + jnp.log1p(jnp.exp(-jnp.abs(x))),
    ),
    "0 log 0": ("entropy_from_logits", lambda x: -jnp.sum(sl.softmax(x) * sl.log_softmax(x), -1)),
    "a factor 2 forgotten": ("z_loss", lambda x: jax.lax.stop_gradient(log_sum(x)) * sl.logsumexp(x, axis=-1)),
    "smoothed over one class more": (
        "softmax_cross_entropy_with_integer_labels, label_smoothing",
        lambda x, label, label_smoothing: sl.softmax_cross_entropy_with_integer_labels(
            x, label, label_smoothing=label_smoothing * 3 / 4
        ),
    ),
    "weight on the negative term": (
        "sigmoid_binary_cross_entropy, pos_weight",
        lambda x, y, pos_weight: sl.sigmoid_binary_cross_entropy(-x, 1 - y, pos_weight=pos_weight),
    ),
    "focal of a rounded p": (
        "softmax_focal_loss",
        lambda x, y: jnp.sum(-y * (1 - sl.softmax(x)) ** 2 * sl.log_softmax(x), -1),
    ),
    "focal without the slope of its factor": (
        "softmax_focal_loss_with_integer_labels",
        lambda x, label: (
            jax.lax.stop_gradient((1 - jnp.exp(sl.log_prob_from_logits(x, label))) ** 2)
            * sl.softmax_cross_entropy_with_integer_labels(x, label)
        ),
    ),
    "1 - p of a rounded p": ("poly_loss_cross_entropy", optax.losses.poly_loss_cross_entropy),
    "cap not scaled back": (
        "softmax_cross_entropy_with_integer_labels, soft_cap",
        lambda x, label, soft_cap: sl.softmax_cross_entropy_with_integer_labels(jnp.tanh(x / soft_cap), label),
    ),
    "a difference of sigmoids": (
        "ordinal_cross_entropy",
        lambda x, label, c: (
            -jnp.log(
                sl.sigmoid(x - jnp.where(label > 0, at_label(c, label - 1), -jnp.inf))
                - sl.sigmoid(x - jnp.where(label < 3, at_label(c, jnp.minimum(label, 2)), jnp.inf))
            )
        ),
    ),
    "own key against the rest by subtraction": (
        "info_nce_loss",
        lambda q, k, temperature: log_sum(q @ k.T / temperature) - jnp.sum(q * k, -1) / temperature,
    ),
    "every pair a negative": (
        "sigmoid_contrastive_loss",
        lambda q, k, scale, bias: jnp.sum(sl.softplus(scale * q @ k.T + bias), -1),
    ),
    "tail of a token's loss lost": (
        "linear_softmax_cross_entropy",
        lambda h, w, label: log_sum(h @ w) - at_label(h @ w, label),
    ),
    "kernel held still": (
        "linear_softmax_cross_entropy",
        lambda h, w, label: sl.linear_softmax_cross_entropy(h, jax.lax.stop_gradient(w), label),
    ),
    "slopes times the loss": (
        "linear_softmax_cross_entropy_sum",
        lambda h, w, label: 0.5 * sl.linear_softmax_cross_entropy_sum(h, w, label) ** 2,
    ),
    "entropy without the slope of its probabilities": (
        "linear_token_statistics",
        lambda h, w, label: sl.linear_token_statistics(h, w, label)._replace(
            entropy=-jnp.sum(jax.lax.stop_gradient(sl.softmax(h @ w)) * sl.log_softmax(h @ w), -1)
        ),
    ),
    "mask dropped": ("logsumexp, where", lambda x, axis, where: sl.logsumexp(x, axis=axis)),
    "leads rounded three times": ("dpo_loss", dpo_of(lambda a, b, c, d: (a - b) - (c - d))),
    "reference forgotten": ("dpo_loss", dpo_of(lambda a, b, c, d: a - b)),
    "smoothed the wrong way round": (
        "dpo_loss, label_smoothing",
        lambda c, r, p, q, label_smoothing: sl.dpo_loss(r, c, q, p, label_smoothing=label_smoothing),
    ),
    "goal 1 / beta": ("ipo_loss", lambda c, r, p, q: sl.ipo_loss(c, r, p, q, beta=0.05)),
    "1 - p rounded": (
        "orpo_loss",
        lambda c, r: 0.1 * sl.softplus(jnp.log1p(-jnp.exp(c)) - jnp.log1p(-jnp.exp(r)) + r - c) - c,
    ),
    "rule by way of log-odds": ("orpo_loss", lambda c, r: 0.1 * sl.softplus(sl.logitexp(r) - sl.logitexp(c)) - c),
    "1 - sigmoid": (
        "kto_loss",
        lambda p, q, desirable: 1 - sl.sigmoid(0.1 * jnp.where(desirable, p - q, q - p)),
    ),
    "ignored label counted": (
        "softmax_cross_entropy_with_integer_labels, ignore_index",
        lambda x, label, ignore_index: sl.softmax_cross_entropy_with_integer_labels(x, abs(label) % 3),
    ),
}


@pytest.mark.parametrize("name", INACCURATE)
def test_accuracy_sees(name):
    row, wrong, *kind = INACCURATE[name]
    spec, order = spec_of(*row.split(", ")), 2 if name == "second order lost" else 1  # in the curvature alone
    with pytest.raises(AssertionError, match=spec.name):
        check_accuracy(spec.call(wrong), spec, *(kind or ["float32"]), order=order)


WRONG_AT_LIMITS = {
    "log targets of -inf": ("kl_divergence_with_log_targets", optax.losses.kl_divergence_with_log_targets),
    "a target of 0 of an absent class": ("kl_divergence", optax.losses.kl_divergence),
    "a generalized one": ("generalized_kl_divergence", optax.losses.generalized_kl_divergence),
    "a mixture of absent classes": ("js_divergence", rounded_mixture),
    "0 times an infinite logit": (
        "bernoulli_kl_from_logits",
        lambda x, y: (
            sl.sigmoid(x) * (sl.log_sigmoid(x) - sl.log_sigmoid(y))
            + sl.sigmoid(-x) * (sl.log_sigmoid(-x) - sl.log_sigmoid(-y))
        ),
    ),
    "absent classes counted": ("logit_matching_loss", lambda x, t: jnp.var(jnp.where(x == t, 0, x - t), -1) / 2),
    "softmax of nothing is NaN": ("softmax", jax.nn.softmax),
    "logsumexp of +inf has no slope": ("logsumexp", lambda x, axis: log_sum(x)),
    "inf - inf": ("logaddexp", lambda a, b: jnp.maximum(a, b) + jnp.log1p(jnp.exp(-jnp.abs(a - b)))),
    "0 log 0": ("xlogy", lambda x, y: x * jnp.log(y)),
    "outside the domain": ("logit", clipped_logit),
    "negative labels count from the end": (
        "softmax_cross_entropy_with_integer_labels",
        optax.losses.softmax_cross_entropy_with_integer_labels,
    ),
    "infinite logits": ("sigmoid_binary_cross_entropy", optax.losses.sigmoid_binary_cross_entropy),
    "two infinite rewards": ("bradley_terry_loss", lambda c, r: sl.softplus(r - c)),
    "both log-odds infinite": (
        "orpo_loss",
        lambda c, r: 0.1 * sl.softplus(sl.logitexp(r) - sl.logitexp(c)) - c,
    ),
    "absent class": ("softmax_cross_entropy", optax.losses.softmax_cross_entropy),
}


@pytest.mark.parametrize("name", WRONG_AT_LIMITS)
def test_limits_see(name):
    row, wrong = WRONG_AT_LIMITS[name]
    spec = spec_of(row)
    with pytest.raises(AssertionError, match=spec.name):
        check_limits(spec.call(wrong), spec, "float32")


WRONG_MASKS = {
    "dropped": lambda x, where: sl.logsumexp(x, axis=-1),
    "applied after the sum": lambda x, where: jnp.log(jnp.sum(jnp.where(where, jnp.exp(x), 0), -1)),
    "a factor of 0": lambda x, where: jnp.sum(x * where.astype(x.dtype), -1),
    "under one where": lambda x, where: jnp.sum(jnp.where(where, jnp.log(jnp.abs(x)) * x, 0), -1),
}


@pytest.mark.parametrize("name", WRONG_MASKS)
def test_masks_see(name):
    with pytest.raises(AssertionError):
        check_masked(WRONG_MASKS[name])


def test_swallowed_nan_is_seen():
    with pytest.raises(AssertionError):
        check_nan_reaches(lambda x, where: jnp.nan_to_num(sl.softmax(x, where=where)))
    with pytest.raises(AssertionError):
        check_nan_reaches(lambda x, where: jnp.sum(jnp.where(where, x, 0)) + sl.logsumexp(x, axis=-1))


def contracted_softmax(x):
    """As a fused multiply-add computes it, where XLA makes one: the product is an ulp off beside the maximum's."""
    e = jnp.exp(x * (1 + 2.0**-23) - jnp.max(x, axis=-1, keepdims=True))
    return e / jnp.sum(e, axis=-1, keepdims=True)


def test_fused_sees():
    with pytest.raises(AssertionError, match="softmax"):
        check_large_rows(contracted_softmax, spec_of("softmax"), "float32", "x * 0.7")
