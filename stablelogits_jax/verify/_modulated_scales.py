"""The scales (see `_scales.py`) of losses that are sums of y h(s), s = -log p, and of capped logits and cutpoints."""

from collections.abc import Callable, Iterable

import numpy as np

from stablelogits_jax.verify._scales import _log_softmax, others, softmax, softmax_slope, tail


def focal_sizes(s, c, gamma=2.0):
    """h = c^gamma s with c = 1 - p, and its slopes, by their terms, of which a power of c or p has the rounding of its
    exponent."""
    p = np.exp(-s)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        m, one, two = (tail(c ** (gamma - n)) * tail(p**n) for n in range(3))
        sizes = (
            m * s,
            np.maximum(m, gamma * s * one),
            gamma * np.max([2 * one, s * one, np.abs(gamma - 1) * s * two], 0),
        )
    return [np.where(s == np.inf, limit, np.nan_to_num(size)) for size, limit in zip(sizes, (0, 1, 0), strict=True)]


def poly_sizes(s, c, epsilon=2.0):
    """h = s + epsilon c"""
    return s + epsilon * c, 1 + epsilon * np.exp(-s), epsilon * tail(np.exp(-s))


def _surprisals(x):
    """-log p and 1 - p, of which a sure class has more digits than p has."""
    p = softmax(x)
    miss = others(p)
    with np.errstate(divide="ignore"):
        return np.where(p > 0.5, -np.log1p(-np.minimum(miss, 0.5)), -_log_softmax(x)), miss


def _parts(x, y, sizes, where, labels):
    """y with h, h' and h'', the slopes of s_i in x_j by their size, and p' by its."""
    x, y = np.where(where, x, -np.inf), np.where(where, labels(y), 0)
    p = softmax(x)
    with np.errstate(invalid="ignore"):
        h, slope, bend = (np.where(y > 0, y * size, 0) for size in sizes(*_surprisals(x)))
    same = np.eye(x.shape[-1])
    moves = np.where(same, others(p)[:, :, None], p[:, None, :])
    return h, slope, bend, moves, softmax_slope(x)


def modulated_value(truth, x, y, where=True, *, sizes, labels=lambda y: y):
    """The sum of the terms, each with the rounding of its exponents."""
    h, *_ = _parts(x, y, sizes, where, labels)
    return np.max(h, -1, keepdims=True)


def modulated_slope(truth, x, y, where=True, *, sizes, labels=lambda y: y):
    """In the logits y_i h' (p_j - [i = j]), of either sign: the largest; in the labels h with its exponents'."""
    _, slope, _, moves, _ = _parts(x, y, sizes, where, labels)
    in_x = np.max(slope[:, :, None] * moves, 1)
    in_y = sizes(*_surprisals(x))[0] * labels(np.ones_like(y))
    return np.concatenate([in_x, in_y], -1)[:, None, :]


def modulated_curvature(truth, x, y, where=True, *, sizes, labels=lambda y: y):
    """In the logits twice y h'' s' s' and y h' p'; in a logit and a label h' s'."""
    _, slope, bend, moves, p_slope = _parts(x, y, sizes, where, labels)
    n = x.shape[-1]
    twice = bend[:, :, None, None] * moves[:, :, :, None] * moves[:, :, None, :]
    both = np.zeros((len(x), 2 * n, 2 * n))
    both[:, :n, :n] = np.maximum(np.max(twice, 1), np.max(slope, -1)[:, None, None] * p_slope)
    mixed = (sizes(*_surprisals(x))[1] * labels(np.ones_like(y)))[:, :, None] * moves
    both[:, n:, :n], both[:, :n, n:] = mixed, np.swapaxes(mixed, 1, 2)
    return both[:, None]


def of_integers(scales: Iterable[Callable]) -> tuple[Callable, ...]:
    """Scales of shares for integer labels: those of an ignored label are 0."""

    def of(scale: Callable) -> Callable:
        def with_label(truth, x, label, where=True):
            n = x.shape[-1]
            shares = np.arange(n) == label[:, None]
            counts = (label >= 0).reshape(-1, *(1,) * (truth.ndim - 1))
            size = scale(truth, x, shares.astype(float), where)
            return np.where(counts, size[(..., *(slice(n),) * (truth.ndim - 2))], 0)

        return with_label

    return tuple(of(scale) for scale in scales)


# Capped logits ----------------------------------------------------------------------------------------------------


def capped_value(truth, x, y, where=True, *, cap):
    """The logits c tanh(x / c) are rounded: by that of the largest times how it moves the loss."""
    z = cap * np.tanh(x / cap)
    return np.max(np.abs(z), -1, keepdims=True) * np.max(_moves(z, y), -1, keepdims=True)


def _moves(z, y):
    """|p sum(y) - y| by its larger term."""
    p = softmax(z)
    return np.maximum(p * others(y), y * others(p))


def _bells(x, cap):
    """sech^2(x / c), with the rounding of x / c, and the same times tanh(x / c) / c."""
    u = x / cap
    e = np.exp(-2 * np.abs(u))
    sech = tail(4 * e / (1 + e) ** 2)
    return sech, sech * np.abs(np.tanh(u)) / cap


def capped_slope(truth, x, y, where=True, *, cap):
    """p - y of rounded logits, times sech^2."""
    z = cap * np.tanh(x / cap)
    slope = _moves(z, y) * np.maximum(1, np.max(np.abs(z), -1, keepdims=True)) * _bells(x, cap)[0]
    return slope[:, None, :]


def capped_curvature(truth, x, y, where=True, *, cap):
    """p' sech^2 sech^2, and on the diagonal (p - y) (sech^2)'."""
    z = cap * np.tanh(x / cap)
    size = np.maximum(1, np.max(np.abs(z), -1))[:, None, None]
    sech, bend = _bells(x, cap)
    twice = softmax_slope(z) * sech[:, :, None] * sech[:, None, :]
    alone = np.eye(x.shape[-1]) * (2 * _moves(z, y) * bend)[:, None, :]
    return (size * np.maximum(twice, alone))[:, None]


# Cutpoints --------------------------------------------------------------------------------------------------------


def cut_tail(truth, *_):
    """`tail`, of a result below 1: one above is no exp(-d)."""
    return np.where(np.abs(truth) < 1, tail(truth), 0)


def ordinal_slope(truth, x, label, c):
    """In the logit sigmoid(x - high) - sigmoid(low - x): the larger; in a cutpoint what `cut_tail` says."""
    ends = np.concatenate([np.full((len(x), 1), -np.inf), c, np.full((len(x), 1), np.inf)], -1)
    at = label.astype(int)[:, None]
    low, high = (np.take_along_axis(ends, at + i, -1)[:, 0] for i in (0, 1))
    with np.errstate(over="ignore"):
        in_x = np.maximum(1 / (1 + np.exp(high - x)), 1 / (1 + np.exp(x - low)))
    return np.maximum(cut_tail(truth), np.where(np.arange(truth.shape[-1]) == 0, in_x[:, None, None], 0))
