"""What an ulp of a divergence is taken of, where that is not the true result: see `_scales.py`."""

import numpy as np

from stablelogits_jax.verify._scales import (
    divergence_curvature,
    divergence_slope,
    divergence_value,
    sigmoids,
    softmax,
    tail,
)


def _largest(terms):
    return np.max(terms, axis=-1, keepdims=True)


def _halves(of_predictions, of_targets):
    """A slope in the log-predictions and in the targets."""
    return np.concatenate([of_predictions, of_targets], axis=-1)[:, None, :]


def _on_diagonal(slope):
    return slope[:, :, :, None] * np.eye(slope.shape[-1])


def _log(t):
    return np.log(np.where(t > 0, t, 1))


def in_predictions(scale):
    """Of a scale for predictions and targets the half for the predictions."""
    return lambda truth, log_q, *args: scale(truth, log_q, *args)[..., : log_q.shape[-1]]


def kl_value(truth, log_q, t, *_):
    """For the sum of t log t - t log q: the largest term."""
    log_q = np.where(t > 0, log_q, 0)
    return _largest(t * np.maximum(np.abs(_log(t)), np.abs(log_q)))


def kl_slope(truth, log_q, t):
    """For 1 + log t - log q in a target: the largest term. -t does not cancel."""
    return _halves(np.zeros_like(log_q), np.max([np.ones_like(t), np.abs(_log(t)), np.abs(log_q)], axis=0))


def logs_value(truth, log_q, log_t, *_):
    """For the sum of t (log t - log q): the largest term."""
    there = log_t > -np.inf
    d = np.where(there, log_t, 0) - np.where(there, log_q, 0)
    return _largest(np.exp(log_t) * np.abs(d))


def logs_slope(truth, log_q, log_t):
    """For t (log t - log q + 1) in a log-target: the larger term."""
    return _halves(np.zeros_like(log_q), np.exp(log_t) * np.maximum(1, np.abs(log_t - log_q)))


def logs_curvature(truth, log_q, log_t):
    """For t (log t - log q + 2), the same."""
    return _on_diagonal(logs_slope(truth, log_q, log_t))


def generalized_value(truth, log_q, t, *_):
    """t phi(d), d = log q - log t, of which the logarithm is rounded: that moves the part by t (exp(d) - 1)."""
    q = np.exp(log_q)
    return _largest(np.abs(q - t) * np.abs(_log(t)))


def generalized_slope(truth, log_q, t):
    """For q - t, and log t - log q: the larger term."""
    return _halves(np.maximum(np.exp(log_q), t), np.abs(_log(t)))


def mixture(log_q, log_t, beta):
    """p, q, their mixture m, and log(m / p) and log(m / q) for those that are present; p is the targets."""
    p, q = np.exp(log_t), np.exp(log_q)
    m = beta * p + (1 - beta) * q
    log_m = np.log(np.where(m > 0, m, 1))
    u, v = (np.where(logs > -np.inf, log_m - np.where(logs > -np.inf, logs, 0), 0) for logs in (log_t, log_q))
    return p, q, m, u, v


def js_curvature(truth, log_q, log_t, beta=0.5):
    """For b p (u - (1 - b) q / m) in log p twice, and the same in log q: the larger term."""
    p, q, m, u, v = mixture(log_q, log_t, beta)
    share = beta * (1 - beta) * p * q / np.where(m > 0, m, 1)
    return _on_diagonal(_halves(np.maximum((1 - beta) * q * np.abs(v), share), np.maximum(beta * p * np.abs(u), share)))


def weighted_js_slope(truth, log_q, log_t, beta):
    """In the weight, for the sum of p phi(u) - q phi(v): the largest term. The others do not cancel."""
    p, q, m, u, v = mixture(log_q, log_t, beta[:, None])
    in_weight = _largest(np.abs(np.concatenate([m - p - p * u, m - q - q * v], axis=-1)))
    return np.concatenate([np.zeros_like(p), np.zeros_like(q), in_weight], axis=-1)[:, None, :]


def weighted_js_curvature(truth, log_q, log_t, beta):
    """As before, and with c = (p - q) / m in the weight and a log for p u + b p c and q v - (1 - b) q c, in the weight
    twice for the sum of (p - q) c: the largest term."""
    b = beta[:, None]
    p, q, m, u, v = mixture(log_q, log_t, b)
    c = (p - q) / np.where(m > 0, m, 1)
    in_q, in_p = q * np.maximum(np.abs(v), np.abs((1 - b) * c)), p * np.maximum(np.abs(u), np.abs(b * c))
    mixed = np.concatenate([in_q, in_p, _largest(np.maximum(p, q) * np.abs(c))], axis=-1)
    n = mixed.shape[-1] - 1
    scale = np.zeros((len(mixed), n + 1, n + 1))
    scale[:, :n, :n] = js_curvature(truth, log_q, log_t, b)[:, 0]
    scale[:, n, :] = scale[:, :, n] = mixed
    return scale[:, None]


def bernoulli_curvature(truth, x, y):
    """For b(x) (1 + tanh(x / 2) (y - x)) in x twice, with b = sigmoid(x) sigmoid(-x): the larger term."""
    p, q = sigmoids(x)
    in_x = p * q * np.maximum(1, np.abs(np.tanh(x / 2) * (y - x)))
    return (in_x[:, None, None] * [[1, 0], [0, 0]])[:, None]


def _differences(x, t):
    """d_i - d_j for d = x - t, and 0 of an absent class."""
    there = x > -np.inf
    d = np.where(there, x, 0) - np.where(there, t, 0)
    return np.where(there[:, :, None] & there[:, None, :], np.abs(d[:, :, None] - d[:, None, :]), 0)


def _far(x, t, temperature):
    """Rows in which log(q / p) is above 1, or nearly so: there logarithms are subtracted."""
    return np.max(_differences(x, t), axis=(1, 2)) > 0.9 * temperature


def distillation_value(truth, x, t, temperature=1.0):
    """No terms of both signs, but those of `divergence_value` in far rows."""
    temperature = np.broadcast_to(temperature, len(x))
    t, x, t_0, x_0 = t / temperature[:, None], x / temperature[:, None], t, x
    size = temperature[:, None] ** 2 * divergence_value(truth, t, x)
    return np.where(_far(x_0, t_0, temperature)[:, None], size, 0)


def distillation_slope(truth, x, t, temperature=1.0):
    """For p_i sum_j p_j (d_i - d_j) with d = x - t: all terms, of a p_i that is an exponential. In far rows
    as for T^2 of the divergence, the student's half first."""
    temperature = np.broadcast_to(temperature, len(x))
    far = _far(x, t, temperature)[:, None, None]
    p = softmax(t / temperature[:, None])
    near = tail(p) * np.einsum("rij,rj->ri", _differences(x, t), p)
    t, x = t / temperature[:, None], x / temperature[:, None]
    of_teacher = temperature[:, None, None] * divergence_slope(np.zeros_like(truth), t, x)
    of_divergence = np.maximum(np.roll(of_teacher, x.shape[-1], axis=-1), tail(truth))
    return np.where(far, of_divergence, _halves(near, near))


def distillation_curvature(truth, x, t, temperature=1.0):
    temperature = np.broadcast_to(temperature, len(x))[:, None]
    of_teacher = divergence_curvature(np.zeros_like(truth), t / temperature, x / temperature)
    return np.maximum(np.roll(of_teacher, (x.shape[-1],) * 2, axis=(-2, -1)), tail(truth))


def matching_slope(truth, x, t, *_):
    """For d - mean d, with d = x - t: the largest of the row."""
    there = x > -np.inf
    d = np.where(there, x, 0) - np.where(there, t, 0)
    count = np.sum(there, axis=-1, keepdims=True)
    c = np.where(there, np.abs(d - np.sum(d, axis=-1, keepdims=True) / count), 0)
    slope = np.where(there, _largest(c) / count, 0)
    return _halves(slope, slope)
