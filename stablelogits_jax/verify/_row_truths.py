"""What rows of logits should give: closed forms in a wider type, and the rules of calculus in mpmath, which hold them.

The wider type is the x86 long double, with 11 bits more than float64. Its exponential of a difference that is not
rounded (see `_exp_of_difference`), and its sums in trees of 131,072 terms, err by some 30 of its units, and nothing in
the forms cancels beyond the scale that an error is measured by: they are right to 0.02 units of float64.
"""

from typing import NamedTuple

import numpy as np
from mpmath import exp, fdot, fsum, inf, log, mpf, workdps

WIDE = np.longdouble if np.finfo(np.longdouble).nmant >= 63 else np.float64


class Rows(NamedTuple):
    """Logits; what gradients and Hessians are multiplied by; and labels, as shares and as a class of each row."""

    x: np.ndarray
    w: np.ndarray
    v: np.ndarray
    y: np.ndarray
    label: np.ndarray


def _sum(a: np.ndarray) -> np.ndarray:
    return np.sum(a, -1, keepdims=True)


def _exp_of_difference(x: np.ndarray, top: np.ndarray) -> np.ndarray:
    """exp(x - top) = exp(d) (1 + lost), with x - top = d + lost exactly (Knuth's two-sum)."""
    finite = np.where(np.isinf(x), top, x)
    d = finite - top
    back = d - finite
    lost = (finite - (d - back)) - (top + back)
    return np.where(np.isinf(x), 0, np.exp(d) * (1 + lost))


def truths(of: Rows) -> dict[str, list[tuple[np.ndarray, np.ndarray | float]]]:
    """Of each function the results in the order of RESULTS, and the scales of the terms that cancel in them.

    With t the top class, p = e / total, and sum' the sum without t, where 1 - p_t = sum' p:
        log total         = log1p(sum' e)
        surprisal s_i     = log total + (x_t - x_i)            no term is negative, and the scale is the truth
        logsumexp         = x_t + log total                    may cross 0: scale |x_t|
    Any constant may be taken from w and v where a row sums to 0. With a = w - w_t and b = v - v_t
        softmax' w        = p_i (a_i - m(a))                   m(a) = sum' p a; scale p_i (|a_i| + m(|a|))
        softmax'' w v     = p_i ((a_i - m(a)) (b_i - m(b)) - c)        c = sum' p a b - m(a) m(b), and at t what is
                            p_t (2 m(a) m(b) - sum' p a b)             left; the scale has all terms, products and sums
        balance(w)_i      = w_i - p_i sum w, at t w_t sum' p - p_t sum' w; scale: the sum of both terms' sizes
    balance is log_softmax' transposed, and for labels minus the slope of the cross entropy. Its slope is
    -(softmax' v) sum w, whose sum may cancel too. For one label, no term of it cancels: its scale is the truth.
    """
    x, w, v, y = (a.astype(WIDE) for a in of[:4])
    hot = np.arange(x.shape[-1]) == of.label[:, None]
    is_top = np.arange(x.shape[-1]) == np.argmax(x, -1)[:, None]
    top = np.max(x, -1, keepdims=True)

    def others(a: np.ndarray) -> np.ndarray:
        return _sum(np.where(is_top, 0, a))

    e = _exp_of_difference(x, top)
    log_total = np.log1p(others(e))
    p, surprisal = e / _sum(e), log_total + (top - x)
    a, b = w - _sum(w * is_top), v - _sum(v * is_top)

    def mean(a: np.ndarray) -> np.ndarray:
        return others(p * a)

    def size(a: np.ndarray) -> np.ndarray:
        return np.abs(a) + mean(np.abs(a))

    def softmax_slope(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return p * (a - mean(a)), p * size(a)

    def balance(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at_top = w * others(p) - p * others(w)
        size_at_top = np.abs(w) * others(p) + p * others(np.abs(w))
        rest = np.abs(w) + p * _sum(np.abs(w))
        return np.where(is_top, at_top, w - p * _sum(w)), np.where(is_top, size_at_top, rest)

    def times(factor: np.ndarray, pair: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return _sum(factor) * pair[0], _sum(np.abs(factor)) * pair[1]

    product = mean(a * b)
    curvature = np.where(is_top, 2 * mean(a) * mean(b) - product, (a - mean(a)) * (b - mean(b)) - product)
    curvature = p * (curvature + np.where(is_top, 0, mean(a) * mean(b)))
    curvature_scale = p * (size(a) * size(b) + mean(np.abs(a * b)) + mean(np.abs(a)) * mean(np.abs(b)))
    slope, scale = balance(y)
    share = np.where(y > 0, y, 0) * np.where(y > 0, surprisal, 0)
    in_v = _sum(p * v), _sum(p * np.abs(v))
    return {
        "logsumexp": [(top + log_total, np.abs(top)), (p, 0.0), in_v, softmax_slope(b)],
        "softmax": [(p, 0.0), softmax_slope(a), softmax_slope(b), (curvature, curvature_scale)],
        "log_softmax": [
            (-surprisal, 0.0),
            balance(w),
            (b - mean(b), size(b)),
            times(-w, softmax_slope(b)),
        ],
        "softmax_cross_entropy": [
            (_sum(share), 0.0),
            (-slope, scale),
            (-_sum(slope * v), _sum(scale * np.abs(v))),
            times(y, softmax_slope(b)),
        ],
        "softmax_cross_entropy_with_integer_labels": [
            (_sum(np.where(hot, surprisal, 0)), 0.0),
            (-balance(hot.astype(WIDE))[0], 0.0),
            (-_sum(balance(hot.astype(WIDE))[0] * v), _sum(np.abs(balance(hot.astype(WIDE))[0] * v))),
            softmax_slope(b),
        ],
    }


# mpmath -----------------------------------------------------------------------------------------------------------


def textbook(name: str, x: list, w: list, v: list, y: list, label: int) -> list[list]:
    """Of one row the same results by the rules of calculus, with digits for all that cancels."""
    n = range(len(x))
    total = fsum(exp(a) for a in x)
    p = [exp(a) / total for a in x]
    log_p = [a - log(total) for a in x]

    def softmax_slope(t: list) -> list:
        return [p[i] * (t[i] - fdot(p, t)) for i in n]

    if name == "logsumexp":
        return [[log(total)], p, [fdot(p, v)], softmax_slope(v)]
    if name == "softmax":
        p_dot = softmax_slope(v)
        curvature = [p_dot[i] * (w[i] - fdot(p, w)) - p[i] * fdot(p_dot, w) for i in n]
        return [p, softmax_slope(w), p_dot, curvature]
    if name == "log_softmax":
        slope = [w[i] - p[i] * fsum(w) for i in n]
        return [log_p, slope, [a - fdot(p, v) for a in v], [-a * fsum(w) for a in softmax_slope(v)]]
    if name.endswith("integer_labels"):
        y = [mpf(i == label) for i in n]
    slope = [p[i] * fsum(y) - y[i] for i in n]
    loss = -fsum(a * b for a, b in zip(y, log_p, strict=True) if a)
    return [[loss], slope, [fdot(slope, v)], [a * fsum(y) for a in softmax_slope(v)]]


def farthest(of: Rows) -> float:
    """How far the closed forms are from the textbook's, in unit roundoffs of float64 or of what cancels."""
    closed, found = truths(of), 0.0
    for i in range(len(of.x)):
        with workdps(400):  # for exp(-700) beside 1
            x, w, v, y = ([mpf(float(b)) if np.isfinite(b) else -inf for b in a[i]] for a in of[:4])
            for name, results in closed.items():
                exact = textbook(name, x, w, v, y, int(of.label[i]))
                for (truth, scale), wanted in zip(results, exact, strict=True):
                    scale = np.broadcast_to(scale, truth.shape)[i]
                    for got, size, number in zip(truth[i], scale, wanted, strict=True):
                        found = max(found, _apart(got, number, float(size)))
    return found


def _apart(got: np.ndarray, number: mpf, size: float) -> float:
    if abs(number) == inf:
        return 0.0 if got == number else float("inf")
    if not np.isfinite(got):
        return float("inf")
    head = float(got)
    error = abs(number - head - float(got - head))
    return float(max(0, error - mpf(10) ** -320) / (mpf(2) ** -53 * max(abs(number), mpf(size), mpf(10) ** -320)))
