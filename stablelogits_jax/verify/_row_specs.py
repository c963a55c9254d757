"""The functions along an axis. A row is tested with three classes: its curvature is a tensor of 27 numbers."""

from functools import partial

import numpy as np
from mpmath import inf, mpf, nan

from stablelogits_jax.verify._grids import distributions, generator, integers, masks, rows
from stablelogits_jax.verify._oracle import exp, log, value_of
from stablelogits_jax.verify._spec import Limit, Spec

CLASSES = 3

# Formulas -----------------------------------------------------------------------------------------------------------


def log_sum_exp(x):
    return log(sum(exp(a) for a in x))


def log_probabilities(x):
    total = log_sum_exp(x)
    return [a - total for a in x]


def present(x, *others):
    """What is there: an absent class (a logit of -inf) changes nothing, and 0 log 0 is 0."""
    kept = [i for i, a in enumerate(x) if value_of(a) > -inf]
    return [[row[i] for i in kept] for row in (x, *others)]


def kept(where, *rows):
    return [[a for a, keep in zip(row, where, strict=True) if keep] for row in rows]


def entropy(x):
    (x,) = present(x)
    return -sum(exp(a) * a for a in log_probabilities(x))


def divergence(x, y):
    x, y = present(x, y)
    return sum(exp(a) * (a - b) for a, b in zip(log_probabilities(x), log_probabilities(y), strict=True))


# Grids --------------------------------------------------------------------------------------------------------------


def row(dtype, **kind):
    return (rows(dtype, CLASSES, **kind),)


def with_masks(dtype):
    (x,) = row(dtype)
    return x, masks(x)


def with_labels(dtype):
    (x,) = row(dtype)
    return x, integers(x)


def with_factors(dtype):
    (x,) = row(dtype)
    return x, np.exp2(generator().uniform(-4, 4, x.shape)).astype(dtype)


def two_rows(dtype):
    """Two rows of logits for the same classes: unrelated, close to one another, and equal."""
    (x,) = row(dtype)
    other = generator().permutation(row(dtype, absent=False)[0])
    which = np.arange(len(x))[:, None] % 4
    close = x.astype(np.float64) * (1 + 0.01 * generator().normal(size=x.shape))
    return x, np.choose(which, [other, other, close, x]).astype(dtype)


def losses(dtype):
    """Losses of a batch, with weights."""
    loss = rows(dtype, CLASSES, absent=False)
    return loss, distributions(dtype, loss) + np.asarray(0.125, dtype)


# Scales: what an ulp is taken of where terms that do not vanish cancel to a zero no input lies on --------------------


def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def top(truth, x, *_):
    """For max + log(sum exp(x - max))."""
    return np.abs(np.max(x, axis=-1, keepdims=True))


def top_or_log_n(truth, x):
    """For max + log(sum exp(x - max)) - log n."""
    return np.maximum(top(truth, x), np.log(CLASSES))


def top_or_one(truth, x, b):
    """For max + log(sum b exp(x - max)), where the sum may be near 1, and its rounding 1 ulp of that."""
    return np.maximum(top(truth, x), 1)


def top_kept(truth, x, where):
    return top(truth, np.where(where, x, -np.inf))


def others(p):
    """1 - p, as the sum of the others."""
    return np.sum(p[:, None, :] * (1 - np.eye(p.shape[-1])), axis=-1)


def softmax_slope(x):
    """|dp_i / dx_j|: p_i p_j, and p_i (1 - p_i) on the diagonal, with 1 - p_i the sum of the others."""
    p = softmax(x)
    return p[:, :, None] * np.where(np.eye(CLASSES), others(p)[:, :, None], p[:, None, :])


def softmax_curvature(truth, x, where=True):
    """For p_i p_j (1 - 2 p_i) and the like, which cross zero at 1/2: the factor before. No crossing for three classes."""
    slope = softmax_slope(np.where(where, x, -np.inf))
    i, j, k = np.ogrid[:CLASSES, :CLASSES, :CLASSES]
    return np.where((i != j) & (j != k) & (k != i), 0, np.minimum(slope[:, :, :, None], slope[:, :, None, :]))


def _between(x, size):
    """p_i p_j max(size_i, size_j) for i != j, and the sum of its row on the diagonal."""
    p = softmax(x)
    size = np.where(p > 0, size, 0)
    pairs = p[:, :, None] * p[:, None, :] * np.maximum(size[:, :, None], size[:, None, :]) * (1 - np.eye(CLASSES))
    return pairs + np.sum(pairs, axis=-1, keepdims=True) * np.eye(CLASSES)


def _information(*logits):
    return [np.maximum(1, -np.log(np.maximum(softmax(x), 1e-300))) for x in logits]


def entropy_slope(truth, x):
    """For sum_j p_i p_j (log p_j - log p_i): the larger logarithm of each pair."""
    return np.einsum("rii->ri", _between(x, *_information(x)))[:, None, :]


def entropy_curvature(truth, x):
    """The same terms again."""
    return _between(x, *_information(x))[:, None, :, :]


def divergence_value(truth, x, y):
    """For the sum of p (log p - log q), whose terms have both signs: the largest of them."""
    p, q = softmax(x), softmax(y)
    ratio = np.log(np.where(p > 0, p, 1)) - np.log(np.where(p > 0, q, 1))
    return np.max(p * np.abs(ratio), axis=-1, keepdims=True)


def divergence_slope(truth, x, y):
    """In x as for the entropy, with the larger of log p and log q; in y for q - p = q (1 - p) - p (1 - q)."""
    in_x = np.einsum("rii->ri", _between(x, np.maximum(*_information(x, y))))
    in_y = np.maximum(softmax(y) * others(softmax(x)), softmax(x) * others(softmax(y)))
    return np.concatenate([in_x, in_y], axis=-1)[:, None, :]


def divergence_curvature(truth, x, y):
    """In x twice as for the slope; nothing cancels elsewhere."""
    both = np.zeros((len(x), 2 * CLASSES, 2 * CLASSES))
    both[:, :CLASSES, :CLASSES] = _between(x, np.maximum(*_information(x, y)))
    return both[:, None]


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
    moving = np.arange(2 * CLASSES) >= CLASSES
    return average(truth, loss, weights)[:, :, None, None] / total**2 * (moving[:, None] & moving)


WHERE = {"options": "where", "call": lambda f: lambda *args: f(*args[:-1], where=args[-1], axis=-1)}

along_last = partial(partial, axis=-1)
ABSENT = (-inf,) * CLASSES
ZEROS = (0.0,) * CLASSES
NO_SLOPES = (0.0,) * CLASSES**2
UNIFORM_SLOPES = tuple((np.eye(3) * 2 / 4 - np.array([1, 1, 0]) * np.array([[1], [1], [0]]) / 4).ravel())

ROWS = (
    Spec(
        "logsumexp",
        log_sum_exp,
        row,
        budget=(4, 4, 6),
        call=along_last,
        scale=(top, None, None),
        limits=(
            Limit((ABSENT,), -inf, ZEROS),
            Limit(((inf, 0, -inf),), inf, (1, 0, 0)),
            Limit(((inf, inf, 0),), inf, (0.5, 0.5, 0)),
            Limit(((-inf, 2, -inf),), 2, (0, 1, 0)),
            Limit(((0, nan, 0),), nan, (nan, nan, nan)),
        ),
        peer="jax.scipy.special.logsumexp",
    ),
    Spec(
        "logsumexp",
        lambda x, where: log_sum_exp(*kept(where, x)),
        with_masks,
        budget=(4, 4, 6),
        scale=(top_kept, None, None),
        peer="jax.scipy.special.logsumexp",
        **WHERE,
    ),
    Spec(
        "logsumexp",
        lambda x, b: log(sum(c * exp(a) for a, c in zip(x, b, strict=True))),
        with_factors,
        budget=(6, 6, 8),
        wrt=(0, 1),
        call=lambda f: lambda x, b: f(x, b=b, axis=-1),
        scale=(top_or_one, None, None),
        peer="jax.scipy.special.logsumexp",
        options="b",
    ),
    Spec(
        "logmeanexp",
        lambda x: log(sum(exp(a) for a in x) / len(x)),
        row,
        budget=(4, 4, 6),
        call=along_last,
        scale=(top_or_log_n, None, None),
        limits=(Limit((ABSENT,), -inf, ZEROS), Limit(((inf, 0, -inf),), inf, (1, 0, 0))),
    ),
    Spec(
        "softmax",
        lambda x: [exp(a) for a in log_probabilities(x)],
        row,
        budget=(4, 6, 8),
        scale=(None, None, softmax_curvature),
        limits=(
            Limit((ABSENT,), ZEROS, NO_SLOPES),
            Limit(((inf, 0, -inf),), (1, 0, 0), NO_SLOPES),
            Limit(((inf, inf, 0),), (0.5, 0.5, 0), UNIFORM_SLOPES),
            Limit(((0, nan, 0),), (nan, nan, nan)),
        ),
        peer="jax.nn.softmax",
    ),
    Spec(
        "softmax",
        lambda x, where: [exp(a - log_sum_exp(*kept(where, x))) if w else mpf(0) for a, w in zip(x, where, strict=True)],
        with_masks,
        budget=(4, 6, 8),
        scale=(None, None, softmax_curvature),
        peer="jax.nn.softmax",
        **WHERE,
    ),
    Spec(
        "log_softmax",
        log_probabilities,
        row,
        budget=(4, 4, 6),
        limits=(
            Limit((ABSENT,), ABSENT, NO_SLOPES),
            Limit(((inf, 0, -inf),), (0, -inf, -inf)),
            Limit(((inf, inf, 0),), (-np.log(2), -np.log(2), -inf)),
            Limit(((0, nan, 0),), (nan, nan, nan)),
        ),
        peer="jax.nn.log_softmax",
    ),
    Spec(
        "entropy_from_logits",
        entropy,
        row,
        budget=(6, 8, 10),
        scale=(None, entropy_slope, entropy_curvature),
        limits=(
            Limit((ABSENT,), 0, ZEROS),
            Limit(((inf, 0, -inf),), 0, ZEROS),
            Limit(((inf, inf, 0),), np.log(2), ZEROS),
            Limit(((0, nan, 0),), nan),
        ),
    ),
    Spec(
        "kl_from_logits",
        divergence,
        two_rows,
        budget=(6, 8, 10),
        wrt=(0, 1),
        scale=(divergence_value, divergence_slope, divergence_curvature),
        limits=(
            Limit((ABSENT, ABSENT), 0, ZEROS + ZEROS),
            Limit(((0, 0, -inf), (0, 0, 0)), np.log(1.5)),
            Limit(((0, 0, 0), (0, 0, -inf)), inf),
            Limit(((0, nan, 0), (0, 0, 0)), nan),
        ),
    ),
    Spec(
        "log_prob_from_logits",
        lambda x, label: log_probabilities(x)[label],
        with_labels,
        budget=(4, 4, 6),
        limits=(
            Limit(((0, -inf, 0), 1), -inf, (-0.5, 1, -0.5)),
            Limit(((0, 0, 0), 3), nan, (nan, nan, nan)),
            Limit(((0, 0, 0), -1), nan, (nan, nan, nan)),
        ),
    ),
    Spec(
        "masked_mean",
        lambda loss, weights: sum(a * w for a, w in zip(loss, weights, strict=True)) / sum(weights),
        losses,
        budget=(6, 4, 8),
        wrt=(0, 1),
        call=lambda f: lambda loss, weights: f(loss, weights=weights, axis=-1),
        scale=(average, from_average, from_average_twice),
        options="weights",
    ),
    Spec(
        "masked_mean",
        lambda loss, where: sum(kept(where, loss)[0]) / sum(where),
        lambda dtype: (losses(dtype)[0], masks(losses(dtype)[0])),
        budget=(6, 4, 8),
        scale=(average, None, None),
        **WHERE,
    ),
)
