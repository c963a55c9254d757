"""The functions of one logit, of one probability and of two of them."""

from functools import partial
from math import inf, nan

import numpy as np

from stablelogits_jax.verify._grids import line, plane, unflushed
from stablelogits_jax.verify._oracle import exp, log
from stablelogits_jax.verify._scales import first_term, largest_argument, one, one_in_p, tail
from stablelogits_jax.verify._spec import Limit, Spec

NOT_A_NUMBER = Limit((nan,), nan, (nan,))
LINEAR_IN_X = (Limit((nan, 0.5), nan, (None, nan)), Limit((0.5, nan), nan, (nan, nan)))
NEITHER_A_NUMBER = (Limit((nan, 0.5), nan, (nan, None)), Limit((0.5, nan), nan, (None, nan)))


def sigmoid(x):
    return 1 / (1 + exp(-x))


def apart(a, b):
    """Whether a - b is a normal number of every type with float32's exponents: a subnormal one is flushed to 0."""
    return a - b >= 2.0**-126


def apart_and_unflushed(dtype, a, b):
    """Nor is one of the slopes' terms exp(-a), exp(b) and exp(b - a) flushed where the others are not."""
    return apart(a, b) & unflushed(dtype, a) & unflushed(dtype, -b) & unflushed(dtype, a - b)


ELEMENTWISE = (
    Spec(
        "sigmoid",
        sigmoid,
        line,
        budget=(2, 4, 8),
        one_number=True,
        limits=(Limit((inf,), 1, (0,)), Limit((-inf,), 0, (0,)), NOT_A_NUMBER),
        peer="jax.nn.sigmoid",
    ),
    Spec(
        "log_sigmoid",
        lambda x: -log(1 + exp(-x)),
        line,
        budget=(2, 4, 8),
        one_number=True,
        limits=(Limit((inf,), 0, (0,)), Limit((-inf,), -inf, (1,)), NOT_A_NUMBER),
        peer="jax.nn.log_sigmoid",
    ),
    Spec(
        "softplus",
        lambda x: log(1 + exp(x)),
        line,
        budget=(2, 4, 8),
        one_number=True,
        limits=(Limit((inf,), inf, (1,)), Limit((-inf,), 0, (0,)), NOT_A_NUMBER),
        peer="jax.nn.softplus",
    ),
    Spec(
        "softplus_inverse",
        lambda y: log(exp(y) - 1),
        lambda dtype: line(dtype, low=0),
        budget=(2, 4, 8),
        one_number=True,
        limits=(Limit((inf,), inf, (1,)), Limit((0,), -inf, (inf,)), Limit((-1,), nan, (nan,)), NOT_A_NUMBER),
    ),
    Spec(
        "logit",
        lambda p: log(p / (1 - p)),
        lambda dtype: line(dtype, low=0, high=1),
        budget=(2, 4, 8),
        one_number=True,
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
        budget=(2, 4, 8),
        one_number=True,
        limits=(Limit((-inf,), -inf, (1,)), Limit((0,), inf, (inf,)), Limit((0.5,), nan, (nan,)), NOT_A_NUMBER),
    ),
    Spec(
        "log1mexp",
        lambda x: log(1 - exp(-x)),
        lambda dtype: line(dtype, low=0),
        budget=(2, 4, 8),
        one_number=True,
        limits=(Limit((inf,), 0, (0,)), Limit((0,), -inf, (inf,)), Limit((-1,), nan, (nan,)), NOT_A_NUMBER),
        peer="jax.nn.log1mexp",
    ),
    Spec(
        "log_cosh",
        lambda x: log((exp(x) + exp(-x)) / 2),
        line,
        budget=(2, 4, 8),
        one_number=True,
        limits=(Limit((inf,), inf, (1,)), Limit((-inf,), inf, (-1,)), NOT_A_NUMBER),
        peer="optax.losses.log_cosh",
    ),
    Spec(
        "entr",
        lambda p: -p * log(p),
        lambda dtype: line(dtype, low=0, near=(float(np.exp(-1)),)),
        budget=(2, 4, 8),
        one_number=True,
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
        lambda dtype: plane(dtype, partial(apart_and_unflushed, dtype)),
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
            *LINEAR_IN_X,
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
            *LINEAR_IN_X,
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
