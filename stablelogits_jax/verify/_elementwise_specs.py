"""The functions of one logit, of one probability and of two of them."""

import numpy as np
from mpmath import inf, nan

from stablelogits_jax.verify._grids import line, plane
from stablelogits_jax.verify._oracle import exp, log
from stablelogits_jax.verify._spec import Limit, Spec

NOT_A_NUMBER = Limit((nan,), nan, (nan,))
NEITHER_A_NUMBER = (Limit((nan, 0.5), nan, (nan, None)), Limit((0.5, nan), nan, (None, nan)))


def sigmoid(x):
    return 1 / (1 + exp(-x))


# Where a value crosses zero because two terms that do not vanish cancel, an ulp is one of the larger term: no input in
# the float type lies on the crossing, and the terms are rounded.


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


def apart(a, b):
    """Whether a - b is a normal number of every type with float32's exponents: a subnormal one is flushed to 0."""
    return a - b >= 2.0**-126


def tail(truth, *_):
    """A result exp(-d), d the difference of two inputs, inherits the rounding of d: |log(truth)| half-ulps of it."""
    size = np.abs(truth)
    return size * np.maximum(1, np.abs(np.log(np.where(size > 0, size, 1))))


ELEMENTWISE = (
    Spec(
        "sigmoid",
        sigmoid,
        line,
        budget=(4, 4, 6),
        limits=(Limit((inf,), 1, (0,)), Limit((-inf,), 0, (0,)), NOT_A_NUMBER),
        peer="jax.nn.sigmoid",
    ),
    Spec(
        "log_sigmoid",
        lambda x: -log(1 + exp(-x)),
        line,
        budget=(4, 4, 4),
        limits=(Limit((inf,), 0, (0,)), Limit((-inf,), -inf, (1,)), NOT_A_NUMBER),
        peer="jax.nn.log_sigmoid",
    ),
    Spec(
        "softplus",
        lambda x: log(1 + exp(x)),
        line,
        budget=(4, 4, 4),
        limits=(Limit((inf,), inf, (1,)), Limit((-inf,), 0, (0,)), NOT_A_NUMBER),
        peer="jax.nn.softplus",
    ),
    Spec(
        "softplus_inverse",
        lambda y: log(exp(y) - 1),
        lambda dtype: line(dtype, low=0),
        budget=(4, 4, 4),
        limits=(Limit((inf,), inf, (1,)), Limit((0,), -inf, (inf,)), Limit((-1,), nan, (nan,)), NOT_A_NUMBER),
    ),
    Spec(
        "logit",
        lambda p: log(p / (1 - p)),
        lambda dtype: line(dtype, low=0, high=1),
        budget=(4, 4, 6),
        limits=(
            Limit((0,), -inf, (inf,)),
            Limit((1,), inf, (inf,)),
            Limit((-0.1,), nan, (nan,)),
            Limit((1.1,), nan, (nan,)),
            NOT_A_NUMBER,
        ),
        peer="jax.scipy.special.logit",
    ),
    Spec(
        "logitexp",
        lambda log_p: log(exp(log_p) / (1 - exp(log_p))),
        lambda dtype: line(dtype, high=0),
        budget=(4, 4, 4),
        limits=(Limit((-inf,), -inf, (1,)), Limit((0,), inf, (inf,)), Limit((0.5,), nan, (nan,)), NOT_A_NUMBER),
    ),
    Spec(
        "log1mexp",
        lambda x: log(1 - exp(-x)),
        lambda dtype: line(dtype, low=0),
        budget=(6, 6, 8),
        limits=(Limit((inf,), 0, (0,)), Limit((0,), -inf, (inf,)), Limit((-1,), nan, (nan,)), NOT_A_NUMBER),
        peer="jax.nn.log1mexp",
    ),
    Spec(
        "log_cosh",
        lambda x: log((exp(x) + exp(-x)) / 2),
        line,
        budget=(4, 4, 4),
        limits=(Limit((inf,), inf, (1,)), Limit((-inf,), inf, (-1,)), NOT_A_NUMBER),
        peer="optax.losses.log_cosh",
    ),
    Spec(
        "entr",
        lambda p: -p * log(p),
        lambda dtype: line(dtype, low=0, near=(float(np.exp(-1)),)),
        budget=(4, 4, 4),
        scale=(None, one, None),
        limits=(Limit((0,), 0, (inf,)), Limit((inf,), -inf, (-inf,)), Limit((-1,), -inf), NOT_A_NUMBER),
        peer="jax.scipy.special.entr",
    ),
    Spec(
        "logaddexp",
        lambda a, b: log(exp(a) + exp(b)),
        lambda dtype: plane(dtype, lambda a, b: a == a),
        budget=(4, 4, 6),
        wrt=(0, 1),
        scale=(largest_argument, tail, tail),
        limits=(
            Limit((inf, 0), inf, (1, 0)),
            Limit((-inf, 3), 3, (0, 1)),
            Limit((inf, -inf), inf, (1, 0)),
            Limit((inf, inf), inf, (0.5, 0.5)),
            Limit((-inf, -inf), -inf, (0, 0)),
            *NEITHER_A_NUMBER,
        ),
        peer="jax.numpy.logaddexp",
    ),
    Spec(
        "logsubexp",
        lambda a, b: log(exp(a) - exp(b)),
        lambda dtype: plane(dtype, apart),
        budget=(4, 4, 8),
        wrt=(0, 1),
        scale=(first_term, tail, tail),
        limits=(
            Limit((3, -inf), 3, (1, 0)),
            Limit((inf, 0), inf, (1, 0)),
            Limit((1, 1), -inf, (inf, -inf)),
            Limit((0, 1), nan, (nan, nan)),
            *NEITHER_A_NUMBER,
        ),
    ),
    Spec(
        "log_sigmoid_diff",
        # Over one denominator: as written, 1 - 1 takes a million digits where both logits are large.
        lambda a, b: log((exp(a) - exp(b)) / ((1 + exp(a)) * (1 + exp(b)))),
        lambda dtype: plane(dtype, apart),
        budget=(4, 6, 8),
        wrt=(0, 1),
        scale=(None, tail, tail),
        limits=(
            Limit((inf, 0), -np.log(2), (0, -0.5)),
            Limit((0, -inf), -np.log(2), (0.5, 0)),
            Limit((inf, -inf), 0, (0, 0)),
            Limit((1, 1), -inf, (inf, -inf)),
            Limit((0, 1), nan, (nan, nan)),
            *NEITHER_A_NUMBER,
        ),
    ),
    Spec(
        "xlogy",
        lambda x, y: x * log(y),
        lambda dtype: plane(dtype, lambda x, y: y > 0),
        budget=(4, 4, 4),
        wrt=(0, 1),
        limits=(
            Limit((0, 0), 0),
            Limit((0, inf), 0),
            Limit((2, 0), -inf, (-inf, inf)),
            Limit((2, -1), nan, (nan, None)),
            *NEITHER_A_NUMBER,
        ),
        peer="jax.scipy.special.xlogy",
    ),
    Spec(
        "xlog1py",
        lambda x, y: x * log(1 + y),
        lambda dtype: plane(dtype, lambda x, y: y > -1, near=((), (-0.5, -1.0))),
        budget=(4, 4, 4),
        wrt=(0, 1),
        limits=(
            Limit((0, -1), 0),
            Limit((0, inf), 0),
            Limit((2, -1), -inf, (-inf, inf)),
            Limit((2, -2), nan, (nan, None)),
            *NEITHER_A_NUMBER,
        ),
        peer="jax.scipy.special.xlog1py",
    ),
    Spec(
        "rel_entr",
        lambda p, q: p * log(p / q),
        lambda dtype: plane(dtype, lambda p, q: (p > 0) & (q > 0) & (apart(p, q) | apart(q, p) | (p == q))),
        budget=(4, 4, 4),
        wrt=(0, 1),
        scale=(None, one_in_p, None),
        limits=(
            Limit((0, 0), 0),
            Limit((0, 1), 0, (-inf, 0)),
            Limit((1, 0), inf, (inf, -inf)),
            Limit((-1, 1), inf),
            Limit((1, -1), inf),
            *NEITHER_A_NUMBER,
        ),
        peer="jax.scipy.special.rel_entr",
    ),
)
