"""The losses on hidden @ kernel. An example is one token with a kernel of its own, whose products every float type
holds exactly; what many tokens and tiles add to that is in the tests."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from stablelogits_jax.verify._grids import generator
from stablelogits_jax.verify._oracle import exp, log
from stablelogits_jax.verify._row_specs import log_probabilities
from stablelogits_jax.verify._scales import others, softmax, softmax_slope
from stablelogits_jax.verify._spec import Spec

TOKENS, FEATURES, CLASSES = 48, 2, 3


def _logits(hidden, kernel):
    return [sum(h * w for h, w in zip(hidden, column, strict=True)) for column in zip(*kernel, strict=True)]


def loss(hidden, kernel, label):
    return -log_probabilities(_logits(hidden, kernel))[label]


def statistics(hidden, kernel, label):
    x = _logits(hidden, kernel)
    log_p = log_probabilities(x)
    return [log_p[label], log(sum(exp(a) for a in x)), -sum(exp(a) * a for a in log_p)]


def tokens(dtype):
    """Multiples of 1/4, near zero and with leads of up to 36."""
    rng = generator()
    hidden = rng.integers(-6, 7, (TOKENS, FEATURES)) / 4 * rng.choice([1, 4], (TOKENS, 1))
    kernel = rng.integers(-6, 7, (TOKENS, FEATURES, CLASSES)) / 4
    return hidden.astype(dtype), kernel.astype(dtype), rng.integers(CLASSES, size=TOKENS).astype(np.int32)


def _in_logits(hidden, kernel, label):
    """Of each output the sizes of the slopes in the logits, [R, 3, V], and of the curvatures, [R, 3, V, V]."""
    x = np.einsum("rd,rdv->rv", hidden, kernel)
    p, bend = softmax(x), softmax_slope(x)
    log_p = -np.log(p)
    surprise = log_p + np.sum(p * log_p, -1, keepdims=True)
    miss = np.where(label[:, None] == np.arange(CLASSES), others(p), p)
    slopes = np.stack([miss, p, p * surprise], 1)
    return slopes, np.stack([bend, bend, bend * (2 + surprise[:, :, None] + surprise[:, None, :])], 1)


def _sizes(hidden, kernel, label):
    """The same in hidden and kernel, for sums of terms of either sign: the sums of the sizes."""
    slopes, bends = _in_logits(hidden, kernel, label)
    h, w = np.abs(hidden), np.abs(kernel)
    r, d, v = w.shape
    in_kernel = np.einsum("rd,vu->rvdu", h, np.eye(v)).reshape(r, v, d * v)
    jacobian = np.concatenate([np.swapaxes(w, 1, 2), in_kernel], -1)
    twice = np.einsum("rva,rovu,rub->roab", jacobian, bends, jacobian)
    mixed = np.einsum("rov,de->rodev", slopes, np.eye(d)).reshape(r, 3, d, d * v)
    twice[:, :, :d, d:] += mixed
    twice[:, :, d:, :d] += np.swapaxes(mixed, 2, 3)
    return np.einsum("rov,rva->roa", slopes, jacobian), twice


def _sized(outputs: slice) -> tuple[Callable, Callable, Callable]:
    def value(truth, hidden, kernel, label):
        """log p + max - max, and the sum of the logits' exponentials beside the largest."""
        top = np.max(np.abs(np.einsum("rd,rdv->rv", hidden, kernel)), -1, keepdims=True)
        return (top * [0, 1, 0])[:, outputs]

    return value, lambda truth, *x: _sizes(*x)[0][:, outputs], lambda truth, *x: _sizes(*x)[1][:, outputs]


def _of_batch(f):
    """Over the examples, or of one."""

    def token(hidden, kernel, label):
        return f(hidden[None], kernel, label[None])

    return lambda hidden, *rest: (jax.vmap(token) if hidden.ndim == 2 else token)(hidden, *rest)


LINEAR = (
    Spec("linear_softmax_cross_entropy", loss, tokens, (4, 4, 8), wrt=(0, 1), call=_of_batch, scale=_sized(slice(1))),
    Spec(
        "linear_softmax_cross_entropy_sum", loss, tokens, (4, 4, 8), wrt=(0, 1), call=_of_batch, scale=_sized(slice(1))
    ),
    Spec(
        "linear_token_statistics",
        statistics,
        tokens,
        budget=(4, 4, 8),
        wrt=(0, 1),
        call=lambda f: _of_batch(lambda *token: jnp.stack(f(*token), -1)),
        scale=_sized(slice(3)),
    ),
)
