"""The losses that optax has not, as textbooks and trainers write them: what a stable one is compared with."""

import jax
import jax.numpy as jnp
import optax


def capped(x, label, axis, soft_cap):
    x = soft_cap * jnp.tanh(x / soft_cap)
    return optax.softmax_cross_entropy_with_integer_labels(x, label, axis=axis)


def with_z_loss(x, label, axis, z_loss):
    return optax.softmax_cross_entropy_with_integer_labels(x, label, axis=axis) + z_loss * log_square(x, axis)


def log_square(x, axis):
    return jax.nn.logsumexp(x, axis) ** 2


def smoothed(x, label, axis, label_smoothing):
    loss = optax.softmax_cross_entropy_with_integer_labels(x, label, axis=axis)
    return (1 - label_smoothing) * loss - label_smoothing * jnp.mean(jax.nn.log_softmax(x, axis), axis)


def focal(x, y, axis):
    log_p = jax.nn.log_softmax(x, axis)
    return -jnp.sum(y * (1 - jnp.exp(log_p)) ** 2 * log_p, axis)


def focal_of_integers(x, label, axis):
    log_p = -optax.softmax_cross_entropy_with_integer_labels(x, label, axis=axis)
    return -((1 - jnp.exp(log_p)) ** 2) * log_p


def entropy(x, axis):
    return -jnp.sum(jax.nn.softmax(x, axis) * jax.nn.log_softmax(x, axis), axis)


def kl(x, y, axis):
    log_p, log_q = (jax.nn.log_softmax(a, axis) for a in (x, y))
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis)


def js(log_q, log_t, axis):
    q, t = jnp.exp(log_q), jnp.exp(log_t)
    log_m = jnp.log((q + t) / 2)
    return jnp.sum(t * (log_t - log_m) + q * (log_q - log_m), axis) / 2


def distillation(x, teacher, axis, temperature):
    log_q, log_p = (jax.nn.log_softmax(a / temperature, axis) for a in (x, teacher))
    return temperature**2 * jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis)


def matching(x, teacher, axis):
    return jnp.var(x - teacher, axis) / 2


def bernoulli_kl(x, y):
    p = jax.nn.sigmoid(x)
    return p * (jax.nn.log_sigmoid(x) - jax.nn.log_sigmoid(y)) + (1 - p) * (
        jax.nn.log_sigmoid(-x) - jax.nn.log_sigmoid(-y)
    )


def ordinal(x, label, cutpoints):
    ends = jnp.concatenate([jnp.full(1, -jnp.inf, x.dtype), cutpoints, jnp.full(1, jnp.inf, x.dtype)])
    return -jnp.log(jax.nn.sigmoid(x - ends[label]) - jax.nn.sigmoid(x - ends[label + 1]))


def bradley_terry(chosen, rejected):
    return -jax.nn.log_sigmoid(chosen - rejected)


def simpo(chosen, rejected):
    return -jax.nn.log_sigmoid(2.0 * (chosen - rejected) - 1.0)


def orpo(chosen, rejected):
    log_odds = (chosen - rejected) - (jnp.log1p(-jnp.exp(chosen)) - jnp.log1p(-jnp.exp(rejected)))
    return -chosen - 0.1 * jax.nn.log_sigmoid(log_odds)


def dpo(chosen, rejected, ref_chosen, ref_rejected):
    return -jax.nn.log_sigmoid(0.1 * ((chosen - rejected) - (ref_chosen - ref_rejected)))


def ipo(chosen, rejected, ref_chosen, ref_rejected):
    return ((chosen - rejected) - (ref_chosen - ref_rejected) - 1 / (2 * 0.1)) ** 2


def kto(logps, ref_logps, desirable):
    lead = 0.1 * (logps - ref_logps)
    return 1 - jax.nn.sigmoid(jnp.where(desirable, lead, -lead))


def info_nce(queries, keys):
    x = queries @ keys.T / 0.07
    return optax.softmax_cross_entropy_with_integer_labels(x, jnp.arange(len(x)))


def sigmoid_contrastive(queries, keys):
    x = 10.0 * queries @ keys.T - 10.0
    return -jnp.sum(jax.nn.log_sigmoid((2 * jnp.eye(len(x), dtype=x.dtype) - 1) * x), -1)
