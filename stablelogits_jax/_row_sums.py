"""Floor 2: sums over rows, [..., n], of what is made of them element by element."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from stablelogits_jax._checks import as_type
from stablelogits_jax._double_float import exact, plus, written

PARTS, PART = (8, 4, 2), 1024  # how many parts a row is cut into, and what they have at least
SHORT = 10  # numbers, whose sum XLA:CPU writes out
STREAMS, LANES = 8, 8  # that one loop reads: the processor fetches no more of a few pages before they are asked for


def _parts(x: jax.Array) -> jax.Array:
    """Long rows as [..., parts, n / parts]. Each part is summed by itself: where devices hold parts of the rows
    under plain `jit`, none asks another for what it sums, as it would for slices of the whole."""
    n = x.shape[-1]
    parts = next((d for d in PARTS if n % d == 0 and n >= d * PART), None) if isinstance(n, int) else None
    return x if parts is None else x.reshape(*x.shape[:-1], parts, n // parts)


# Sums that are linear ---------------------------------------------------------------------------------------------


def row_sum(x: jax.Array) -> jax.Array:
    """sum x, [..., 1], the sums of parts in pairs"""
    parts = _parts(x)
    sums = _sum_in_fours(parts)
    if parts.ndim == x.ndim:
        return sums
    sums = sums[..., 0]
    while sums.shape[-1] > 1:
        pairs = sums.reshape(*sums.shape[:-1], sums.shape[-1] // 2, 2)
        sums = jax.lax.optimization_barrier(jnp.sum(pairs, -1))
    return sums


def _sum_in_fours(x: jax.Array) -> jax.Array:
    """sum x, [..., 1], four numbers at a time: the error of a sum grows with the numbers that are added one after
    another, as XLA:CPU adds those of a small array, and most of all with equal ones, which are rounded alike. A barrier
    keeps XLA from making one sum of two."""
    while isinstance(x.shape[-1], int) and x.shape[-1] > SHORT:
        quarter = -(-x.shape[-1] // 4)
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 4 * quarter - x.shape[-1])])
        x = jax.lax.optimization_barrier(jnp.sum(x.reshape(*x.shape[:-1], 4, quarter), -2))
    return jnp.sum(x, -1, keepdims=True)


def inner(slope: jax.Array, t: jax.Array) -> jax.Array:
    return row_sum(slope * as_type(t, slope.dtype))[..., 0]


# Sums of functions ------------------------------------------------------------------------------------------------


def sums(f: Callable, rows: Sequence[jax.Array], numbers: Sequence[jax.Array] = (), costly: bool = False) -> Any:
    """The sums, [..., 1], of what f(*rows, *numbers) gives, an array or several; the numbers are of the row, [..., 1].

    On a CPU of pieces of the rows, added in pairs as arrays, in one loop that writes out one of them: XLA's own sum of
    fewer than 2048 numbers adds one after another there, and rounds all alike if they are; and it writes out whatever
    is selected of what it sums. What is left of a row is added in pieces too; of a costly f it is written out first, as
    XLA does not vectorize what is padded. There is no transpose that is fast."""

    def whole(rows: Sequence[jax.Array], numbers: Sequence[jax.Array]) -> Any:
        return jax.tree.map(lambda x: jnp.sum(x, -1, keepdims=True), f(*rows, *numbers))

    def in_pieces(rows: Sequence[jax.Array], numbers: Sequence[jax.Array]) -> Any:
        parts = [_parts(x) for x in rows]
        if parts[0].ndim == rows[0].ndim:
            return _sums(f, parts, numbers, costly)
        of_parts = _sums(f, parts, [a[..., None] for a in numbers], costly)
        return jax.tree.map(lambda few: _sum_of_pieces(few[..., 0]), of_parts)

    return jax.lax.platform_dependent(list(rows), list(numbers), cpu=in_pieces, default=whole)


def _sums(f: Callable, rows: Sequence[jax.Array], numbers: Sequence[jax.Array], costly: bool) -> Any:
    n = rows[0].shape[-1]
    if not isinstance(n, int) or n == 0:
        return jax.tree.map(lambda x: jnp.sum(x, -1, keepdims=True), f(*rows, *numbers))
    width = _width(n, STREAMS // len(rows))
    ends = range(width, n + 1, width)
    terms = [f(*(x[..., end - width : end] for x in rows), *numbers) for end in ends]
    of_pieces = jax.tree.map(lambda *terms: _sum_of_pieces(_added(list(terms))), *terms)
    if ends[-1] == n:
        return of_pieces
    rest = f(*(x[..., ends[-1] :] for x in rows), *numbers)
    return jax.tree.map(lambda s, x: s + _sum_of_pieces(written(x) if costly else x), of_pieces, rest)


def _width(n: int, pieces: int) -> int:
    return LANES * max(1, n // (pieces * LANES)) if n > 2 * LANES else 1


def _sum_of_pieces(x: jax.Array) -> jax.Array:
    """The last additions round most, and so are of pairs. XLA:CPU would make them again for each class of what follows
    if they were not written out."""
    while x.shape[-1] > 2 * LANES:
        width = _width(x.shape[-1], STREAMS)
        x = _added([x[..., start : start + width] for start in range(0, x.shape[-1], width)])
    terms = [exact(x[..., i : i + 1]) for i in range(x.shape[-1])]
    while len(terms) > 1:
        odd = terms[len(terms) & ~1 :]
        terms = [plus(a, b) for a, b in zip(terms[::2], terms[1::2], strict=False)] + odd
    y = terms[0].rounded()
    return written(y) if x.shape[-1] > 1 else y


def _added(terms: list[jax.Array]) -> jax.Array:
    first, last = terms[0], terms[-1]
    missing = first.shape[-1] - last.shape[-1]
    if missing:
        terms[-1] = jnp.pad(last, [(0, 0)] * (last.ndim - 1) + [(0, missing)])
    while len(terms) > 1:
        odd = terms[len(terms) & ~1 :]
        terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)] + odd
    return written(terms[0])
