"""What an ulp is taken of, where that is not the true result.

A result crosses zero where terms that do not vanish cancel. No input in the float type lies on such a crossing, and the
terms are rounded: there an ulp is one of the largest term. A scale names the terms. It is a function of the true
results, [R, m], [R, m, k] or [R, m, k, k], and of the arguments; where nothing cancels it is 0 or below the result.
"""

import numpy as np

# Two numbers ------------------------------------------------------------------------------------------------------


def first_term(truth, a, *_):
    """For a + (...) the size of a."""
    return np.abs(a)[:, None]


def largest_argument(truth, a, b):
    """For max(a, b) + log1p(...) the size of max(a, b)."""
    return np.abs(np.maximum(a, b))[:, None]


def one(truth, *_):
    """For -log(p) - 1, which crosses zero at 1/e."""
    return np.ones_like(truth)


def one_in_p(truth, *_):
    """For log(p / q) + 1, which crosses zero at p = q / e; the slope in q, -p / q, does not."""
    return np.ones_like(truth) * [1, 0]


def tail(truth, *_):
    """A result exp(-d), d the difference of two inputs, inherits the rounding of d: |log(truth)| half-ulps of it."""
    size = np.abs(truth)
    return size * np.maximum(1, np.abs(np.log(np.where(size > 0, size, 1))))


# Rows -------------------------------------------------------------------------------------------------------------


def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def others(p):
    """The sum of the other numbers of the row: 1 - p for probabilities."""
    return np.sum(p[:, None, :] * (1 - np.eye(p.shape[-1])), axis=-1)


def top(truth, x, *_):
    """For max + log(sum exp(x - max))."""
    return np.abs(np.max(x, axis=-1, keepdims=True))


def top_or_log_n(truth, x):
    """For max + log(sum exp(x - max)) - log n."""
    return np.maximum(top(truth, x), np.log(x.shape[-1]))


def top_or_one(truth, x, b):
    """For max + log(sum b exp(x - max)), where the sum may be near 1, and its rounding 1 ulp of that."""
    return np.maximum(top(truth, x), 1)


def factors_curvature(truth, x, b):
    """In one factor twice, -(p / b)^2 is left of p (1 - p) / b^2 - p / b^2."""
    p = softmax(x + np.log(b))
    n = x.shape[-1]
    both = np.zeros((len(x), 2 * n, 2 * n))
    both[:, n:, n:] = np.eye(n) * (p / b**2)[:, None, :]
    return np.maximum(tail(both), tail(truth[:, 0]))[:, None]


def top_kept(truth, x, where):
    return top(truth, np.where(where, x, -np.inf))


def softmax_slope(x):
    """|dp_i / dx_j|: p_i p_j, and p_i (1 - p_i) on the diagonal, with 1 - p_i the sum of the others."""
    p = softmax(x)
    return p[:, :, None] * np.where(np.eye(x.shape[-1]), others(p)[:, :, None], p[:, None, :])


def softmax_curvature(truth, x, where=True):
    """For p_i p_j (1 - 2 p_i) and the like, which cross zero at 1/2: the factor before. 2 p_i p_j p_k does not."""
    slope = softmax_slope(np.where(where, x, -np.inf))
    n = x.shape[-1]
    i, j, k = np.ogrid[:n, :n, :n]
    return np.where((i != j) & (j != k) & (k != i), 0, np.minimum(slope[:, :, :, None], slope[:, :, None, :]))


def _between(x, size):
    """p_i p_j max(size_i, size_j) for i != j, and the sum of its row on the diagonal."""
    p = softmax(x)
    size = np.where(p > 0, size, 0)
    diagonal = np.eye(x.shape[-1])
    pairs = p[:, :, None] * p[:, None, :] * np.maximum(size[:, :, None], size[:, None, :]) * (1 - diagonal)
    return pairs + np.sum(pairs, axis=-1, keepdims=True) * diagonal


def _log_softmax(x):
    shifted = x - np.max(x, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def _information(*logits):
    return [np.maximum(1, -_log_softmax(x)) for x in logits]


def entropy_slope(truth, x):
    """For sum_j p_i p_j (log p_j - log p_i): the larger logarithm of each pair."""
    return np.einsum("rii->ri", _between(x, *_information(x)))[:, None, :]


def entropy_curvature(truth, x):
    """The same terms again."""
    return _between(x, *_information(x))[:, None, :, :]


def divergence_value(truth, x, y):
    """For the sum of p (log p - log q), whose terms have both signs: the largest of them."""
    p = softmax(x)
    log_p, log_q = (np.where(p > 0, _log_softmax(logits), 0) for logits in (x, y))
    return np.max(p * np.abs(log_p - log_q), axis=-1, keepdims=True)


def divergence_slope(truth, x, y):
    """In x as for the entropy, with the larger of log p and log q; in y for q - p = q (1 - p) - p (1 - q)."""
    in_x = np.einsum("rii->ri", _between(x, np.maximum(*_information(x, y))))
    in_y = np.maximum(softmax(y) * others(softmax(x)), softmax(x) * others(softmax(y)))
    return np.maximum(np.concatenate([in_x, in_y], axis=-1)[:, None, :], tail(truth))


def divergence_curvature(truth, x, y):
    """In x twice as for the slope. In one of x and one of y it is the slope of w_i - p_i sum w with w = -p log q: what
    is left there is p_i p_j, or -p_i (1 - p_i), of terms as large as p_i (1 - p_i)."""
    n = x.shape[-1]
    p = softmax(x)
    both = np.zeros((len(x), 2 * n, 2 * n))
    both[:, :n, :n] = _between(x, np.maximum(*_information(x, y)))
    both[:, :n, n:] = (p * others(p))[:, :, None]
    both[:, n:, :n] = (p * others(p))[:, None, :]
    return np.maximum(both[:, None], tail(truth))


def average(truth, loss, weights):
    """For a mean of numbers of both signs: the largest of them."""
    return np.max(np.abs(loss), axis=-1, keepdims=True)


def from_average(truth, loss, weights):
    """For the slope in a weight, (loss - mean) / sum(weights)."""
    slope = average(truth, loss, weights) / np.sum(weights, axis=-1, keepdims=True)
    return np.concatenate([np.zeros_like(loss), slope * np.ones_like(loss)], axis=-1)[:, None, :]


def from_average_twice(truth, loss, weights):
    """For its own slope in another weight, -(2 loss - ...) / sum(weights)**2."""
    total = np.sum(weights, axis=-1)[:, None, None, None]
    n = loss.shape[-1]
    moving = np.arange(2 * n) >= n
    return average(truth, loss, weights)[:, :, None, None] / total**2 * (moving[:, None] & moving)


# Binary losses ----------------------------------------------------------------------------------------------------


def sigmoids(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e), np.where(x >= 0, e, 1) / (1 + e)


def binary_slope(truth, x, y, where=True, weight=1.0, smoothing=0.0):
    """In the logit (1 - y) sigmoid(x) - w y sigmoid(-x), in the label w softplus(-x) - softplus(x): the larger term.

    With w = 1 the latter is -x, and nothing cancels.
    """
    p, q = sigmoids(x)
    y = (1 - smoothing) * y + smoothing / 2
    in_y = np.zeros_like(x) if weight == 1 else np.maximum(weight * np.logaddexp(0, -x), np.logaddexp(0, x))
    return (np.stack([np.maximum((1 - y) * p, weight * y * q), in_y], axis=-1) * np.expand_dims(where, -1))[:, None, :]


def focal_terms(x, y, gamma):
    """(1 - p_y)^gamma with the rounding of its exponent, the cross entropy c, c' by its absolute terms, and the size of
    log(1 - p_y)' and of y's part."""
    p, q = sigmoids(x)
    miss = (1 - y) * p + y * q
    c = y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x)
    inverse = np.divide(1, miss, out=np.zeros_like(miss), where=miss > 0)
    return tail(miss**gamma), c, (1 - y) * p + y * q, tail(p * q * inverse), np.abs(p - q) * inverse


def focal_value(truth, x, y, gamma=2.0):
    """(1 - p_y)^gamma = exp(gamma log(1 - p_y)) inherits the rounding of the exponent: |exponent| half-ulps of it."""
    m, c, *_ = focal_terms(x, y, gamma)
    return (m * c)[:, None]


def focal_slope(truth, x, y, gamma=2.0, factor=1.0):
    """For m (c' + gamma c log(1 - p_y)') in the logit and in the label: the largest term."""
    m, c, c_dot, pull, miss_y = focal_terms(x, y, gamma)
    with np.errstate(invalid="ignore", over="ignore"):
        in_x = m * np.maximum(c_dot, gamma * c * pull)
        in_y = m * np.maximum(np.abs(x), gamma * c * miss_y)
    return factor * np.nan_to_num(np.stack([in_x, in_y], axis=-1)[:, None, :], nan=0.0)  # 0 of an infinite c


def focal_curvature(truth, x, y, gamma=2.0, factor=1.0):
    """The product rule once more, by its largest term."""
    m, c, c_dot, pull, miss_y = focal_terms(x, y, gamma)
    p, q = sigmoids(x)
    g = gamma * pull
    with np.errstate(invalid="ignore", over="ignore"):
        in_x = m * np.max([g * g * c, g * (1 + pull) * c, 2 * g * c_dot, p * q], axis=0)
        both = gamma * miss_y
        mixed = m * np.max([np.ones_like(x), g * np.abs(x), both * c_dot, both * (pull + g) * c], axis=0)
        in_y = m * np.max([both * np.abs(x), both**2 * c], axis=0)
    largest = np.stack([np.stack([in_x, mixed], -1), np.stack([mixed, in_y], -1)], -1)[:, None]
    return factor * np.nan_to_num(largest, nan=0.0)  # 0 of an infinite c


# Categorical losses -----------------------------------------------------------------------------------------------


def _slope_in_logits(x, y):
    p = softmax(x)
    return np.maximum(p * others(y), y * others(p))


def categorical_slope(truth, x, y, where=True, labels=lambda y: y):
    """For p sum(y) - y in the logits, which is p_i (the other y) - y_i (the other p): the larger term."""
    in_x = _slope_in_logits(np.where(where, x, -np.inf), np.where(where, labels(y), 0))
    return np.concatenate([in_x, np.zeros_like(in_x)], axis=-1)[:, None, :]


def in_logits(scale):
    """Of a scale for logits and labels the half for the logits."""
    return lambda truth, x, *args: scale(truth, x, *args)[..., : x.shape[-1]]


def integer_slope(truth, x, label, labels=lambda y: y):
    """The same for labels that smoothing or weights make shares."""
    return _slope_in_logits(x, labels(np.eye(x.shape[-1])[label.astype(int)]))[:, None, :]


def integer_curvature(truth, x, label):
    """For dp_i / dx_j and what is added to it."""
    return softmax_slope(x)[:, None]


def normalizer(x):
    """The size of max + log(sum exp(x - max))."""
    top = np.max(x, axis=-1)
    return np.maximum(np.abs(top), np.log(np.sum(np.exp(x - top[:, None]), axis=-1)))


def z_value(truth, x):
    """For the square of a log-sum that may cross zero."""
    return 2 * np.sqrt(np.abs(truth)) * normalizer(x)[:, None]


def z_slope(truth, x, *_, factor=1.0):
    """For 2 logsumexp(x) p, the same."""
    return (factor * 2 * normalizer(x)[:, None] * softmax(x))[:, None, :]


def z_curvature(truth, x, *_, factor=1.0):
    """For 2 (p_i p_j + logsumexp(x) dp_i / dx_j), the larger term."""
    p = softmax(x)
    size = np.maximum(p[:, :, None] * p[:, None, :], normalizer(x)[:, None, None] * softmax_slope(x))
    return (factor * 2 * size)[:, None]
