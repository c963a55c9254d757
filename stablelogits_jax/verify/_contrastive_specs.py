"""The losses on pairs of embeddings. An example is a batch of them, whose products every float type holds exactly."""

from functools import partial

import jax
import numpy as np

from stablelogits_jax.verify._grids import generator
from stablelogits_jax.verify._oracle import exp, log
from stablelogits_jax.verify._row_specs import log_probabilities
from stablelogits_jax.verify._scales import sigmoids, softmax, softmax_slope
from stablelogits_jax.verify._spec import Spec

PAIRS, FEATURES, BATCHES = 3, 2, 12
TEMPERATURE, SCALE, BIAS = 0.125, 8.0, -4.0


def products(queries, keys):
    return [[sum(a * b for a, b in zip(q, k, strict=True)) for k in keys] for q in queries]


def info_nce(queries, keys, temperature=TEMPERATURE):
    rows = [[a / temperature for a in row] for row in products(queries, keys)]
    return [-log_probabilities(row)[i] for i, row in enumerate(rows)]


def sigmoid_contrastive(queries, keys, scale=SCALE, bias=BIAS):
    rows = [[scale * a + bias for a in row] for row in products(queries, keys)]
    return [sum(log(1 + exp(-a if i == j else a)) for j, a in enumerate(row)) for i, row in enumerate(rows)]


def embeddings(dtype):
    """Multiples of 1/4 up to 3/2, unrelated and equal."""
    rng = generator()
    q, k = (rng.integers(-6, 7, (BATCHES, PAIRS, FEATURES)) / 4 for _ in range(2))
    return q.astype(dtype), np.where(np.arange(BATCHES)[:, None, None] % 3 == 0, q, k).astype(dtype)


def _terms(q, k, slope, bend, factor):
    """Of sums over the keys with slopes and curvatures in the products: the sums of the sizes. [R, i, (q, k)] and
    [R, i, (q, k), (q, k)]."""
    r, n, d = q.shape
    q, k = np.abs(q), np.abs(k)
    in_products = np.eye(n)[None, :, :, None] * slope[:, :, None, :] * factor  # loss i, query i, key j
    dq = np.einsum("rimj,rje->rime", in_products, k)
    dk = np.einsum("rimj,rme->rije", in_products, q)
    first = np.concatenate([dq.reshape(r, n, -1), dk.reshape(r, n, -1)], -1)
    jac = np.zeros((r, n, n, 2, n, d))  # of product (i, j): in q, in k
    for i in range(n):
        jac[:, i, :, 0, i] = k
        jac[:, i, np.arange(n), 1, np.arange(n)] = q[:, i, None]
    jac = jac.reshape(r, n, n, -1)
    twice = factor**2 * np.einsum("rija,rijl,rilb->riab", jac, bend, jac)
    mixed = np.zeros((r, n, n, d, n, d))
    for i in range(n):
        for e in range(d):
            mixed[:, i, i, e, :, e] = factor * slope[:, i]
    mixed = mixed.reshape(r, n, n * d, n * d)
    twice[:, :, : n * d, n * d :] += mixed
    twice[:, :, n * d :, : n * d] += np.swapaxes(mixed, 2, 3)
    return first, twice


def _info_nce_terms(q, k):
    p = softmax(np.einsum("rie,rje->rij", q, k) / TEMPERATURE)
    own = np.eye(PAIRS)[None]
    slope = np.where(own == 1, np.sum(p * (1 - own), -1, keepdims=True), p)
    bend = np.stack([softmax_slope(row) for row in np.moveaxis(np.log(p), 1, 0)], 1)
    return _terms(q, k, slope, bend, 1 / TEMPERATURE)


def _sigmoid_terms(q, k):
    x = SCALE * np.einsum("rie,rje->rij", q, k) + BIAS
    plus, minus = sigmoids(x)
    bend = (plus * minus)[..., None] * np.eye(PAIRS)
    return _terms(q, k, np.where(np.eye(PAIRS) == 1, minus, plus), bend, SCALE)


def slope_of(terms):
    """For sums over keys and queries of terms of either sign: the sum of their sizes."""
    return lambda truth, q, k: terms(q, k)[0]


def curvature_of(terms):
    """The same."""
    return lambda truth, q, k: terms(q, k)[1]


def batched(**options):
    """Over the batches, or of one."""

    def call(f):
        g = partial(f, **options)
        return lambda q, k: (jax.vmap(g) if q.ndim == 3 else g)(q, k)

    return call


CONTRASTIVE = tuple(
    Spec(
        name,
        formula,
        embeddings,
        budget=(4, 4, 8),
        wrt=(0, 1),
        call=batched(**options),
        scale=(None, slope_of(terms), curvature_of(terms)),
    )
    for name, formula, terms, options in (
        ("info_nce_loss", info_nce, _info_nce_terms, {"temperature": TEMPERATURE}),
        ("sigmoid_contrastive_loss", sigmoid_contrastive, _sigmoid_terms, {"scale": SCALE, "bias": BIAS}),
    )
)
