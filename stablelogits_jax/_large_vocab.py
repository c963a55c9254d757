"""Floor 4: losses on the logits hidden @ kernel of a vocabulary so large that they are never all made."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from stablelogits_jax import _checks
from stablelogits_jax._bivariate import _times
from stablelogits_jax._core import masked
from stablelogits_jax._mesh import AxisName
from stablelogits_jax._vocabulary import tokens
from stablelogits_jax._vocabulary_layout import laid_out
from stablelogits_jax._vocabulary_sum import log_normalizer, losses, total


def linear_softmax_cross_entropy(
    hidden: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    vocab_axis: int = -1,
    where: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: ArrayLike = 0.0,
    weights: ArrayLike | None = None,
    z_loss: ArrayLike = 0.0,
    soft_cap: ArrayLike | None = None,
    axis_name: AxisName = None,
    memory_limit: int | None = None,
) -> jax.Array:
    r"""`softmax_cross_entropy_with_integer_labels` of the logits `hidden @ kernel`, which are never all in memory.

    With 128 thousand classes the logits of a batch, and their gradient, take more memory than the rest of a model. Here
    a tile of them is made, looked at and forgotten, and made once more for the gradient, in forward and in reverse mode
    of every order. `linear_softmax_cross_entropy_sum` is faster where one number is all that is needed.

    Args:
        hidden: of shape (..., D).
        kernel: of shape (D, V), as Flax's Dense has it; with vocab_axis=0 of shape (V, D), as an embedding has it.
            Beside 16-bit hidden states a float32 one is multiplied in float32, tile by tile: cast it to multiply in 16
            bits. On GPUs and TPUs products in float32 are as precise as `jax.default_matmul_precision` says.
        labels: integers in [0, V), of hidden's shape without the last axis.
        bias: of shape (V,); a class of -inf is absent.
        vocab_axis: the axis of the kernel that holds the classes.
        where: tokens to keep, of a shape that broadcasts to the labels'.
        ignore_index: tokens with this label get loss 0 and slope 0, whatever they hold. A block of tokens, none of
            which is kept, is not computed.
        label_smoothing: s in [0, 1], a number or one for each token: the labels become (1 - s) onehot + s / V.
        weights: weights of the classes, >= 0, of shape (V,); they multiply the (smoothed) labels.
        z_loss: the factor, >= 0, a number or one for each token, of logsumexp(x)^2, which is added, with x the capped
            logits; weights and label_smoothing leave it as it is.
        soft_cap: c > 0, one number, for c tanh(x / c) in the place of each logit x.
        axis_name: the mesh axis, or axes, that the classes are split over, inside `jax.shard_map`: kernel, bias and
            weights are then a device's part, hidden and labels the same on all of its devices, and labels count the
            classes of all.
        memory_limit: bytes of the logits of a tile, at most; by default a 64th of all logits', between 16 and 64 MiB.

    Returns:
        Losses in [0, inf] of the labels' shape, of the widest type of hidden, kernel and bias, float32 at least.
        Slopes are of the type of what they belong to; sums over tiles are taken in float32 or better.
        Limits: those of `softmax_cross_entropy_with_integer_labels`.

    Raises:
        TypeError: hidden, kernel or bias are not float64, float32, bfloat16 or float16, the labels,
            ignore_index or memory_limit not integers, or where is not boolean.
        ValueError: shapes do not go together, tokens or classes are symbols of `jax.export` in number, vocab_axis or a
            static option is out of range, or memory_limit is too small for the smallest tile.

    Example:
        >>> import jax, jax.numpy as jnp, stablelogits_jax as sl
        >>> hidden, kernel = jnp.eye(3), 20. * jnp.eye(3, 50000)
        >>> loss = sl.linear_softmax_cross_entropy(hidden, kernel, jnp.array([0, 1, -1]), ignore_index=-1)
        >>> print(" ".join(f"{l:.4g}" for l in loss))
        0.0001031 0.0001031 0

    References:
        Wijmans et al., [Cut Your Losses in Large-Vocabulary Language Models](https://arxiv.org/abs/2411.09009), 2024.
        Milakov and Gimelshein, [Online normalizer calculation for softmax](https://arxiv.org/abs/1805.02867), 2018.
    """
    of = laid_out(
        "linear_softmax_cross_entropy",
        hidden,
        kernel,
        labels,
        bias=bias,
        vocab_axis=vocab_axis,
        where=where,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        weights=weights,
        soft_cap=soft_cap,
        axis_name=axis_name,
        memory_limit=memory_limit,
    )
    terms = of.terms(label_smoothing, z_loss)
    return of.as_given(losses(tokens(of.plan, of.head, of.labels, of.some()), terms))


def linear_softmax_cross_entropy_sum(
    hidden: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    token_weights: ArrayLike | None = None,
    *,
    bias: ArrayLike | None = None,
    vocab_axis: int = -1,
    where: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: ArrayLike = 0.0,
    weights: ArrayLike | None = None,
    z_loss: ArrayLike = 0.0,
    soft_cap: ArrayLike | None = None,
    axis_name: AxisName = None,
    memory_limit: int | None = None,
) -> jax.Array:
    r"""$\sum_t w_t l_t$ with the losses l of `linear_softmax_cross_entropy`, whose gradient takes three products of
    matrices in the place of four.

    The slope is taken while the logits of a few tokens are at hand, and later multiplied by that of what is made of the
    sum. A mean is the sum with weights that sum to 1: over the tokens of all devices, 1 / their number for each.

    Args:
        hidden: of shape (..., D).
        kernel: of shape (D, V), as Flax's Dense has it; with vocab_axis=0 of shape (V, D), as an embedding has it.
        labels: integers in [0, V), of hidden's shape without the last axis.
        token_weights: w, of either sign, of a shape that broadcasts to the labels'; None means 1.
        bias: of shape (V,); a class of -inf is absent.
        vocab_axis: the axis of the kernel that holds the classes.
        where: tokens to keep, of a shape that broadcasts to the labels'.
        ignore_index: tokens with this label get loss 0 and slope 0, whatever they hold.
        label_smoothing: s in [0, 1], a number or one for each token: the labels become (1 - s) onehot + s / V.
        weights: weights of the classes, >= 0, of shape (V,); they multiply the (smoothed) labels.
        z_loss: the factor, >= 0, a number or one for each token, of logsumexp(x)^2, which is added, with x the capped
            logits; weights and label_smoothing leave it as it is.
        soft_cap: c > 0, one number, for c tanh(x / c) in the place of each logit x.
        axis_name: the mesh axis, or axes, that the classes are split over, inside `jax.shard_map`, as in
            `linear_softmax_cross_entropy`. The slope of a row that is split takes its four products, as only after
            all devices have been asked is its sum known.
        memory_limit: bytes of the logits that are kept at a time, at most; by default those of an eighth of the tokens,
            or of 512.

    Returns:
        A number, of the widest type of hidden, kernel and bias, float32 at least.
        Limits: those of `linear_softmax_cross_entropy`; a token of weight 0 adds nothing.

    Raises:
        TypeError: hidden, kernel or bias are not float64, float32, bfloat16 or float16, the labels or ignore_index not
            integers, where is not boolean, or token_weights are not real.
        ValueError: shapes do not go together, tokens or classes are symbols of `jax.export` in number, vocab_axis or a
            static option is out of range, or memory_limit is too small for a few tokens.

    Example:
        >>> import jax, jax.numpy as jnp, stablelogits_jax as sl
        >>> hidden, kernel = jnp.eye(3), 20. * jnp.eye(3, 50000)
        >>> loss = sl.linear_softmax_cross_entropy_sum(hidden, kernel, jnp.array([0, 1, 3]), jnp.array([1., 1., 0.]))
        >>> print(f"{loss:.4g}")
        0.0002061

    References:
        Hsu et al., [Liger Kernel](https://arxiv.org/abs/2410.10989), 2024.
    """
    name = "linear_softmax_cross_entropy_sum"
    of = laid_out(
        name,
        hidden,
        kernel,
        labels,
        bias=bias,
        vocab_axis=vocab_axis,
        where=where,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        weights=weights,
        soft_cap=soft_cap,
        axis_name=axis_name,
        memory_limit=memory_limit,
        of_rows=axis_name is None,
    )
    dtype = _checks.compute_type(of.head.hidden.dtype)
    given = _checks.real(name, "token_weights", 1.0 if token_weights is None else token_weights, dtype)
    w = of.blocks(_checks.broadcast(name, "token_weights", given, of.shape))
    w = w if of.counted is None else masked(w, of.counted, 0)
    terms = of.terms(label_smoothing, z_loss)
    if axis_name is None:
        return total(of.plan, of.head, terms, w, of.labels, of.some())
    return jnp.sum(_times(w, losses(tokens(of.plan, of.head, of.labels, of.some()), terms)))


class TokenStatistics(NamedTuple):
    """What `linear_token_statistics` returns, each of the labels' shape."""

    log_prob: jax.Array
    log_normalizer: jax.Array
    entropy: jax.Array


def linear_token_statistics(
    hidden: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    vocab_axis: int = -1,
    where: ArrayLike | None = None,
    ignore_index: int | None = None,
    soft_cap: ArrayLike | None = None,
    axis_name: AxisName = None,
    memory_limit: int | None = None,
) -> TokenStatistics:
    r"""Of logits z = hidden @ kernel the label's log-probability, $\log \sum_i e^{z_i}$ and the entropy, in one pass.

    What a policy gradient with an entropy bonus needs of a language model, without its logits in memory.

    Args:
        hidden: of shape (..., D). For a temperature T, pass hidden / T, bias / T and soft_cap / T.
        kernel: of shape (D, V), as Flax's Dense has it; with vocab_axis=0 of shape (V, D), as an embedding has it.
        labels: integers in [0, V), of hidden's shape without the last axis.
        bias: of shape (V,); a class of -inf is absent.
        vocab_axis: the axis of the kernel that holds the classes.
        where: tokens to keep, of a shape that broadcasts to the labels'.
        ignore_index: tokens with this label get three zeros with slope 0, whatever they hold.
        soft_cap: c > 0, one number, for c tanh(x / c) in the place of each logit x.
        axis_name: the mesh axis, or axes, that the classes are split over, inside `jax.shard_map`, as in
            `linear_softmax_cross_entropy`.
        memory_limit: bytes of the logits of a tile, at most; by default a 64th of all logits', between 16 and 64 MiB.

    Returns:
        A named tuple (log_prob in [-inf, 0], log_normalizer, entropy in [0, log V]), each of the labels' shape, of the
        widest type of hidden, kernel and bias, float32 at least.
        Limits: those of `log_prob_from_logits`, `logsumexp` and `entropy_from_logits`.

    Raises:
        TypeError: hidden, kernel or bias are not float64, float32, bfloat16 or float16, the labels,
            ignore_index or memory_limit not integers, or where is not boolean.
        ValueError: shapes do not go together, tokens or classes are symbols of `jax.export` in number, vocab_axis or a
            static option is out of range, or memory_limit is too small for the smallest tile.

    Example:
        >>> import jax, jax.numpy as jnp, stablelogits_jax as sl
        >>> of = sl.linear_token_statistics(jnp.ones((2, 4)), jnp.zeros((4, 50000)), jnp.array([0, 1]))
        >>> print(f"{of.log_prob[0]:.4f} {of.log_normalizer[0]:.4f} {of.entropy[0]:.4f}")
        -10.8198 10.8198 10.8198

    References:
        Schulman et al., [Proximal Policy Optimization](https://arxiv.org/abs/1707.06347), 2017.
    """
    of = laid_out(
        "linear_token_statistics",
        hidden,
        kernel,
        labels,
        bias=bias,
        vocab_axis=vocab_axis,
        where=where,
        ignore_index=ignore_index,
        soft_cap=soft_cap,
        axis_name=axis_name,
        memory_limit=memory_limit,
        entropy=True,
    )
    found = tokens(of.plan, of.head, of.labels, of.some())
    entropy = jnp.zeros_like(found.surprisal) if found.entropy is None else found.entropy
    return TokenStatistics(*(of.as_given(x) for x in (-found.surprisal, log_normalizer(found), entropy)))
