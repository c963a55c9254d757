"""Rows split over a mesh axis, inside shard_map: value, slope and Hessian-vector product are those of the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import stablelogits_jax as sl

RNG = np.random.default_rng(0)
N = 40
X = jnp.asarray(RNG.normal(size=(6, N)) * 3, jnp.float32)
X = X.at[0, 3].set(60.0).at[1, 30].set(60.0).at[2, 5].set(-jnp.inf).at[3].set(-jnp.inf)
LABEL = jnp.array([3, 30, 5, 1, N - 1, -1])
SHARES = jnp.asarray(RNG.dirichlet(np.ones(N), 6), jnp.float32)
WEIGHTS = jnp.asarray(RNG.random(N), jnp.float32)
KEEP = jnp.asarray(RNG.random((6, N)) < 0.8)
T = jnp.asarray(RNG.normal(size=X.shape), jnp.float32)
ROWS, CLASSES = P(None, "model"), P("model")


def dense(x, y, w, where, **split):
    options = {"label_smoothing": 0.1, "weights": w, "z_loss": 0.1, "soft_cap": 20.0}
    return sl.softmax_cross_entropy(x, y, where=where, **options, **split)


def integer(x, y, w, **split):
    options = {"label_smoothing": 0.1, "weights": w, "z_loss": 0.1}
    return sl.softmax_cross_entropy_with_integer_labels(x, y, **options, **split)


def focal(x, y, w, **split):
    options = {"label_smoothing": 0.1, "weights": w, "gamma": 1.5}
    return sl.softmax_focal_loss_with_integer_labels(x, y, **options, **split)


CASES = {  # the function, what follows the logits, how that is split, and how the result is
    "logsumexp": (lambda x, **s: sl.logsumexp(x, axis=-1, **s), (), (), P()),
    "logmeanexp": (lambda x, m, **s: sl.logmeanexp(x, axis=-1, where=m, **s), (KEEP,), (ROWS,), P()),
    "softmax": (sl.softmax, (), (), ROWS),
    "log_softmax": (sl.log_softmax, (), (), ROWS),
    "entropy_from_logits": (sl.entropy_from_logits, (), (), P()),
    "log_prob_from_logits": (
        lambda x, y, m, **s: sl.log_prob_from_logits(x, y, where=m, **s),
        (LABEL, KEEP),
        (P(), ROWS),
        P(),
    ),
    "softmax_cross_entropy": (dense, (SHARES, WEIGHTS, KEEP), (ROWS, CLASSES, ROWS), P()),
    "softmax_cross_entropy_with_integer_labels": (integer, (LABEL, WEIGHTS), (P(), CLASSES), P()),
    "softmax_focal_loss": (
        lambda x, y, m, **s: sl.softmax_focal_loss(x, y, where=m, gamma=1.5, **s),
        (SHARES, KEEP),
        (ROWS, ROWS),
        P(),
    ),
    "softmax_focal_loss_with_integer_labels": (focal, (LABEL, WEIGHTS), (P(), CLASSES), P()),
    "poly_loss_cross_entropy": (sl.poly_loss_cross_entropy, (SHARES,), (ROWS,), P()),
    "z_loss": (sl.z_loss, (), (), P()),
}


def slope(f):
    return lambda x, *rest: jax.grad(lambda x: jnp.sum(f(x, *rest) * ct(f, x, rest)))(x)


def ct(f, *args):
    shape = jax.eval_shape(f, args[0], *args[1]).shape
    return jnp.cos(jnp.arange(np.prod(shape), dtype=jnp.float32)).reshape(shape)


def bend(f):
    return lambda x, *rest: jax.jvp(lambda x: slope(f)(x, *rest), (x,), (T,))[1]


@pytest.mark.parametrize("name", CASES)
def test_split(name):
    f, rest, spread, out = CASES[name]
    mesh = Mesh(np.array(jax.devices()[:2]), "model")
    local = lambda *args: f(*args, axis_name="model")  # noqa: E731
    checked, unchecked = (
        jax.shard_map(local, mesh=mesh, in_specs=(ROWS, *spread), out_specs=out, check_vma=check)
        for check in (True, False)
    )
    for order, splits in ((lambda f: f, [checked]), (slope, [checked, unchecked]), (bend, [checked])):
        wanted = jax.jit(order(f))(X, *rest)
        largest = float(jnp.max(jnp.abs(jnp.where(jnp.isfinite(wanted), wanted, 0))))
        for split in splits:
            got = jax.jit(order(split))(X, *rest)
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-7 * largest)


def test_factors_are_not_split():
    with pytest.raises(ValueError, match=r"logsumexp.*axis_name.*factors b"):
        sl.logsumexp(X, b=X, axis_name="model")
