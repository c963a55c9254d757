"""Floor 3: losses on pairs of embeddings, each of which is to be told from the other pairs of a batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from stablelogits_jax import _checks, _label
from stablelogits_jax._core import core, define_slopes, masked
from stablelogits_jax._mesh import AxisName
from stablelogits_jax._row_divergence import _tempered
from stablelogits_jax._row_sums import row_sum
from stablelogits_jax._univariate import _softplus


def _scores(
    function: str, queries: ArrayLike, keys: ArrayLike, where: ArrayLike | None, axis_name: AxisName
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """The products of each query with all keys, [n, N], the columns of the queries' own keys, and the mask of the
    products. The keys of other devices are gathered; what is masked is 0."""
    (q, k), dtype = _checks.floating(function, queries=queries, keys=keys)
    _checks.mapped(function, axis_name)
    _checks.matrix(function, "queries", q)
    _checks.require_shape(function, "keys", k.shape, q.shape)
    mask = _checks.mask(function, where, q.shape[:1])
    if mask is not None:
        q, k = (masked(side, mask[:, None], 0) for side in (q, k))

    def of_all(x: jax.Array) -> jax.Array:
        return x if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)

    first = 0 if axis_name is None else q.shape[0] * jax.lax.axis_index(axis_name)
    own = first + jnp.arange(q.shape[0])
    products = jnp.einsum("id,jd->ij", q, of_all(k), preferred_element_type=_checks.compute_type(dtype))
    return products, own, None if mask is None else mask[:, None] & of_all(mask)[None]


def info_nce_loss(
    queries: ArrayLike,
    keys: ArrayLike,
    *,
    temperature: ArrayLike = 0.07,
    where: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> jax.Array:
    r"""Cross entropy of each query's own key among all keys, $-\log \mathrm{softmax}_j(q_i \cdot k_j / T)_i$.

    CLIP's loss is the mean of `info_nce_loss(images, texts)` and `info_nce_loss(texts, images)`. The embeddings are
    taken as they are: for cosines, normalize them first. A query whose own key leads by far has no loss and no gradient
    if the usual logsumexp minus the own product is taken; here it has both.

    Args:
        queries: embeddings, of shape (n, d). On GPUs and TPUs the products of float32 ones are as precise as
            `jax.default_matmul_precision` says.
        keys: embeddings of the same shape; row i belongs to query i, the other rows are its negatives.
        temperature: T > 0, one number.
        where: pairs to keep, of shape (n,); the others are no negatives either, and get loss 0 and slope 0.
        axis_name: the mesh axis or axes that the batch is split over, within `jax.shard_map`: the negatives are those
            of all devices.

    Returns:
        Losses in [0, inf] of shape (n,), float32 for 16-bit embeddings.
        Limits: 0 where the own product alone is +inf, log k where it is one of k; +inf where only others are, or the
        own is -inf; NaN where a product is.

    Raises:
        TypeError: the embeddings are not float64, float32, bfloat16 or float16, the temperature not real, or where is
            not boolean.
        ValueError: the embeddings are not two matrices of one shape, there are no pairs, where has another shape, the
            temperature is more than one number, or a static one is not positive, or axis_name is unknown.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> print(f"{sl.info_nce_loss(jnp.eye(2), jnp.eye(2), temperature=0.05)[0]:.4g}")
        2.061e-09

    References:
        van den Oord et al., [Contrastive Predictive Coding](https://arxiv.org/abs/1807.03748), 2018.
        Radford et al., [CLIP](https://arxiv.org/abs/2103.00020), 2021.
    """
    name = "info_nce_loss"
    products, own, pairs = _scores(name, queries, keys, where, axis_name)
    _checks.not_empty(name, "queries", jnp.asarray(queries), 0)
    t = _checks.option(name, "temperature", temperature, (), products.dtype, positive=True).reshape(1, 1)
    if pairs is None:
        return _label.surprisal(_tempered(products, t), own)
    counted = jnp.any(pairs, -1)
    products = masked(products, pairs, jnp.where(counted, jnp.asarray(-jnp.inf, products.dtype), 0)[:, None])
    return masked(_label.surprisal(_tempered(products, t), own), counted, 0)


def sigmoid_contrastive_loss(
    queries: ArrayLike,
    keys: ArrayLike,
    *,
    scale: ArrayLike = 10.0,
    bias: ArrayLike = -10.0,
    where: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> jax.Array:
    r"""SigLIP's loss: whether each pair of a query and a key belongs together, $\sum_j \log(1 + e^{-z_{ij} l_{ij}})$
    with $l_{ij} = t \, q_i \cdot k_j + b$ and z 1 for a query's own key, -1 for the others.

    The embeddings are taken as they are: for cosines, normalize them first. SigLIP's own mean is that over the queries.

    Args:
        queries: embeddings, of shape (n, d). On GPUs and TPUs the products of float32 ones are as precise as
            `jax.default_matmul_precision` says.
        keys: embeddings of the same shape; row i belongs to query i, the other rows are its negatives.
        scale: t >= 0, one number, trained as the exponential of a parameter.
        bias: b, one number.
        where: pairs to keep, of shape (n,); the others are no negatives either, and get loss 0 and slope 0.
        axis_name: the mesh axis or axes that the batch is split over, within `jax.shard_map`: the negatives are those
            of all devices.

    Returns:
        Losses in [0, inf] of shape (n,), float32 for 16-bit embeddings.
        Limits: a pair whose product is infinite adds 0 where the sign is right, +inf for a query's own key and -inf for
        another's, and +inf where it is wrong; at scale 0 no product counts; NaN where a product is.

    Raises:
        TypeError: the embeddings are not float64, float32, bfloat16 or float16, an option is not real, or where is not
            boolean.
        ValueError: the embeddings are not two matrices of one shape, where has another, an option is more than one
            number, or a static one is out of range, or axis_name is unknown.

    Example:
        >>> import jax.numpy as jnp, stablelogits_jax as sl
        >>> loss = sl.sigmoid_contrastive_loss(jnp.eye(2), jnp.eye(2), scale=60., bias=-30.)
        >>> print(f"{loss[0]:.4g}")
        1.872e-13

    References:
        Zhai et al., [Sigmoid Loss for Language Image Pre-Training](https://arxiv.org/abs/2303.15343), 2023.
    """
    name = "sigmoid_contrastive_loss"
    products, own, pairs = _scores(name, queries, keys, where, axis_name)
    t, b = (
        _checks.option(name, argument, value, (), products.dtype, low)
        for argument, value, low in (("scale", scale, 0), ("bias", bias, float("-inf")))
    )
    x = _paired(products, t.reshape(1, 1), b.reshape(1, 1))
    is_own = jax.lax.broadcasted_iota(own.dtype, x.shape, 1) == own[:, None]
    losses = _softplus(jnp.where(is_own, -x, x))
    return row_sum(losses if pairs is None else masked(losses, pairs, 0))[..., 0]


@core
def _paired(products: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """t q k + b, also of products that overflow: without weight at t = 0, and of finite slope in t, as a pair whose
    loss is 0 has a slope of 0, which that is multiplied by."""
    return jnp.where((scale == 0) & ~jnp.isnan(products), bias, scale * products + bias)


define_slopes(
    _paired,
    lambda products, scale, bias: scale,
    lambda products, scale, bias: jnp.clip(products, jnp.finfo(products.dtype).min, jnp.finfo(products.dtype).max),
    lambda products, scale, bias: 1,
)
