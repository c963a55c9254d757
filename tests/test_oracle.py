"""The oracle against closed forms: it is what everything else is measured by."""

import numpy as np
import pytest
from mpmath import exp, expm1, log, log1p, mpf, tanh, workprec

from stablelogits_jax.verify import _oracle
from stablelogits_jax.verify._oracle import Jet, along, derivatives, power

FLOAT64_EXPONENTS = 1074


def sigmoid(x):
    return 1 / (1 + _oracle.exp(-x))


def softplus(x):
    return _oracle.log(1 + _oracle.exp(x))


def agree(got, wanted):
    assert abs(got - wanted) <= abs(wanted) * mpf(2) ** -70, (got, wanted)


@pytest.mark.parametrize("x", [-745.0, -700.0, -17.0, -1e-300, 0.0, 1e-300, 0.3, 17.0, 700.0])
def test_sigmoid_family(x):
    """softplus = log1p(e^x), softplus' = s, s' = s (1 - s), s'' = -s' tanh(x/2): nothing is lost at any x."""
    value, slope, curvature = (t.item() for t in derivatives(softplus, [x], [0], 2, FLOAT64_EXPONENTS))
    with workprec(4000):
        e = exp(mpf(x))
        agree(value, log1p(e))
        agree(slope, e / (1 + e))
        agree(curvature, e / (1 + e) ** 2)
        third = along(sigmoid, [x], [0], {0: 1}, 2)[2].item()
        agree(third, -e / (1 + e) ** 2 * tanh(mpf(x) / 2))


@pytest.mark.parametrize("x", [1e-300, 1e-5, 0.5, 40.0, 700.0])
def test_log1mexp(x):
    def log1mexp(x):
        return _oracle.log(1 - _oracle.exp(-x))

    value, slope, curvature = (t.item() for t in derivatives(log1mexp, [x], [0], 2, FLOAT64_EXPONENTS))
    with workprec(4000):
        agree(value, log(-expm1(-mpf(x))))
        agree(slope, 1 / expm1(mpf(x)))
        agree(curvature, -exp(mpf(x)) / expm1(mpf(x)) ** 2)


def test_every_order_of_the_primitives():
    """exp, log, power, product and quotient to order 6, from the derivatives of e^(2x), log x, x^r, x e^x and 1/x."""
    x, order = mpf("0.7"), 6
    jet = Jet([x, mpf(1), *[mpf(0)] * (order - 1)])
    orders = range(order + 1)
    factorials = np.cumprod([1, *range(1, order + 1)])
    with workprec(200):
        series = {
            "exp": (_oracle.exp(2 * jet), [2**k * exp(2 * x) for k in orders]),
            "log": (_oracle.log(jet), [log(x), *[(-1) ** (k - 1) * factorials[k - 1] / x**k for k in orders[1:]]]),
            "power": (power(jet, mpf(2.5)), [np.prod([2.5 - i for i in range(k)]) * x ** (2.5 - k) for k in orders]),
            "product": (jet * _oracle.exp(jet), [(x + k) * exp(x) for k in orders]),
            "quotient": (1 / jet, [(-1) ** k * factorials[k] / x ** (k + 1) for k in orders]),
        }
        for name, (got, wanted) in series.items():
            for k, derivative in enumerate(wanted):
                error = abs(factorials[k] * got.c[k] - derivative)
                assert error <= abs(derivative) * mpf(2) ** -40, (name, k)


def test_rows_and_polarisation():
    """The Jacobian of softmax is p_i (d_ij - p_j), the curvature of logsumexp the same."""
    x = [0.5, -700.0, 3.0]

    def total(x):
        return sum(_oracle.exp(a) for a in x)

    def softmax(x):
        return [_oracle.exp(a) / total(x) for a in x]

    p, slope = derivatives(softmax, [x], [0], 1, FLOAT64_EXPONENTS)
    log_total, gradient, hessian = derivatives(lambda x: _oracle.log(total(x)), [x], [0], 2, FLOAT64_EXPONENTS)
    with workprec(4000):
        agree(log_total.item(), log(sum(exp(mpf(a)) for a in x)))
        for i in range(3):
            agree(gradient[0, i], p[i])
            for j in range(3):
                wanted = p[i] * sum(p[k] for k in range(3) if k != i) if i == j else -p[i] * p[j]
                agree(slope[i, j], wanted)
                agree(hessian[0, i, j], wanted)


def test_what_is_not_differentiated_is_handed_on():
    (value, slope) = derivatives(lambda x, i, keep: x[i] * keep, [[1.5, 2.5], 1, True], [0], 1, 149)
    assert value.item() == 2.5
    assert [int(a) for a in slope[0]] == [0, 1]


def test_a_formula_that_never_settles_is_an_error():
    from mpmath import mp

    with pytest.raises(ArithmeticError, match="does not settle"):
        derivatives(lambda x: x * mp.prec, [1.0], [0], 0, 149)
