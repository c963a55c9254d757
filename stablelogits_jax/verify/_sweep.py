"""Every float32 number through a function of one number, for value, slope and curvature.

The truth is the function's own float64 form, of other code than its float32 form, and with 29 more bits: the tests hold
it to mpmath within 8 of its ulps, which is 1e-8 of float32's. Blocks of 2^22 numbers are the unit of work: a sweep can
be cut into shards and resumed, and a part of the blocks' numbers, of all blocks alike, is a stratified sample.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stablelogits_jax.verify._measure import digest, float64_where_needed

BLOCK = 22  # bits of the numbers in a block; the others, sign and exponent among them, number the blocks
BLOCKS = 1 << (32 - BLOCK)
ORDERS = ("value", "slope", "curvature")

# The numbers that a function is defined on.
EVERYWHERE, POSITIVE, NEGATIVE, UNIT = (-np.inf, np.inf), (0.0, np.inf), (-np.inf, 0.0), (0.0, 1.0)
DOMAINS = {
    "sigmoid": EVERYWHERE,
    "log_sigmoid": EVERYWHERE,
    "softplus": EVERYWHERE,
    "softplus_inverse": POSITIVE,
    "logit": UNIT,
    "logitexp": NEGATIVE,
    "log1mexp": POSITIVE,
    "log_cosh": EVERYWHERE,
    "entr": POSITIVE,
}


class Tally(NamedTuple):
    """Of one order: how many results were measured, how many are over half an ulp off (and by how much the worst, at
    which number), and how many are broken: NaN, infinite where the truth is finite in the type, finite where it is
    beyond the type, or a normal number where it is far below one. The committed sweeps are older than the last two
    counts, which the samples of the tests have."""

    measured: int = 0
    over_half: int = 0
    broken: int = 0
    worst: float = 0.0
    at: float = 0.0


NOTHING = [Tally()] * len(ORDERS)


def merged(a: Tally, b: Tally) -> Tally:
    worse = max(a, b, key=lambda tally: tally.worst)
    measured, over_half, broken = (x + y for x, y in zip(a[:3], b[:3], strict=True))
    return Tally(measured, over_half, broken, worse.worst, worse.at)


def total(parts: Iterable[list[Tally]]) -> list[Tally]:
    """The tallies of value, slope and curvature together."""
    together = NOTHING
    for part in parts:
        together = [merged(a, b) for a, b in zip(together, part, strict=True)]
    return together


def orders(f: Callable, x: jax.Array) -> tuple[jax.Array, ...]:
    """f(x), f'(x) and f''(x) by forward mode."""
    one = jnp.ones_like(x)

    def slope(x: jax.Array) -> jax.Array:
        return jax.jvp(f, (x,), (one,))[1]

    return f(x), slope(x), jax.jvp(slope, (x,), (one,))[1]


def code(name: str, dtype: str = "float32") -> str:
    """A digest of the function, its slope and its curvature."""
    with float64_where_needed("float64"):
        like = jax.ShapeDtypeStruct((8,), jnp.dtype(dtype))
        return digest(jax.jit(partial(orders, _public(name))).lower(like))


def _in_float64(x: jax.Array) -> jax.Array:
    """x in float64, which XLA's own conversion makes of a subnormal number, flushed to 0 first."""
    info = jnp.finfo(x.dtype)
    bits = jax.lax.bitcast_convert_type(x, jnp.dtype(f"int{info.bits}"))
    digits = (bits & ((1 << info.nmant) - 1)).astype(jnp.float64) * 2.0 ** (info.minexp - info.nmant)
    subnormal = (bits & ((1 << (info.bits - 1)) - (1 << info.nmant))) == 0
    return jnp.where(subnormal, jnp.where(bits < 0, -digits, digits), x.astype(jnp.float64))


def _tally(name: str, f: Callable, x: jax.Array) -> tuple[jax.Array, ...]:
    """Five counts of each order, over the numbers that the function is defined on and the normal results of f."""
    info, (low, high) = jnp.finfo(x.dtype), DOMAINS[name]
    wide = _in_float64(x)
    asked = (wide > low) & (wide < high) & jnp.isfinite(wide)
    inside = 0.5 if low >= 0 else -0.5
    x, wide = jnp.where(asked, x, inside), jnp.where(asked, wide, inside)
    counts = []
    for got, truth in zip(orders(f, x), orders(_public(name), wide), strict=True):
        size = jnp.abs(truth)
        normal = asked & (size >= float(info.tiny)) & (size < 2.0**info.maxexp)
        exponent = (jax.lax.bitcast_convert_type(truth, jnp.int64) >> 52) & 2047
        ulp = jax.lax.bitcast_convert_type(jnp.maximum(exponent - info.nmant, 1) << 52, jnp.float64)
        finite = jnp.isfinite(got)
        error = jnp.where(normal & finite, jnp.abs(got.astype(jnp.float64) - truth) / ulp, 0)
        may_round_to_infinity = size >= float(info.max) * (1 + 2.0 ** (-info.nmant - 3))
        worst = jnp.argmax(error)
        beyond = finite & (size >= 2.0**info.maxexp)
        large = finite & (size < float(info.tiny) / 2) & (jnp.abs(got) >= float(info.tiny))
        wrong = jnp.isnan(got) | (~finite & ~may_round_to_infinity) | beyond | large
        broken = jnp.sum(asked & jnp.isfinite(truth) & wrong)
        counts += [jnp.sum(normal), jnp.sum(error > 0.5), broken, error[worst], wide[worst]]
    return tuple(counts)


def _public(name: str) -> Callable:
    return getattr(import_module("stablelogits_jax"), name)


@partial(jax.jit, static_argnames=("name", "f", "stride"))
def _block(name: str, f: Callable, stride: int, start: jax.Array) -> tuple[jax.Array, ...]:
    bits = start + stride * jnp.arange((1 << BLOCK) // stride, dtype=jnp.uint32)
    return _tally(name, f, jax.lax.bitcast_convert_type(bits, jnp.float32))


@partial(jax.jit, static_argnames=("name", "f", "dtype"))
def _all(name: str, f: Callable, dtype: str) -> tuple[jax.Array, ...]:
    bits = jnp.arange(1 << 16, dtype=jnp.uint16)
    return _tally(name, f, jax.lax.bitcast_convert_type(bits, jnp.dtype(dtype)))


def _tallies(counts: tuple[jax.Array, ...]) -> list[Tally]:
    found = [count.item() for count in counts]
    return [Tally(*found[i : i + 5]) for i in range(0, len(found), 5)]


def sixteen_bits(name: str, dtype: str, f: Callable | None = None) -> list[Tally]:
    """All 65,536 numbers of float16 or bfloat16, of our function or of a peer f."""
    with float64_where_needed("float64"):
        return _tallies(_all(name, f or _public(name), dtype))


def sweep(
    name: str, blocks: range | list[int], stride: int = 1, f: Callable | None = None
) -> Iterator[tuple[int, list[Tally]]]:
    """The tallies of blocks, one by one; with a stride, of each stride-th number. Blocks without a number are left out
    before they are computed."""
    low, high = DOMAINS[name]
    with float64_where_needed("float64"):
        for block in blocks:
            ends = np.array([block << BLOCK, ((block + 1) << BLOCK) - 1], np.uint32).view(np.float32)
            outside = np.isnan(ends[0]) or not (np.max(ends) > low and np.min(ends) < high)
            start = jnp.uint32(block << BLOCK)
            yield block, NOTHING if outside else _tallies(_block(name, f or _public(name), stride, start))


def sample(name: str, stride: int, f: Callable | None = None) -> list[Tally]:
    """A stratified sample of the float32 numbers: each `stride`-th."""
    return total(found for _, found in sweep(name, range(BLOCKS), stride, f))


def kept(file: Path, code: str) -> dict[str, Any]:
    """What an earlier run of the same code left in a file."""
    found = json.loads(file.read_text()) if file.exists() else {}
    return found if found.get("code") == code else {}


def keep(file: Path, code: str, **found: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"code": code, **found}) + "\n")


def swept(
    name: str, folder: Path, shard: tuple[int, int] = (0, 1), every: int = 16
) -> Iterator[tuple[int, list[Tally]]]:
    """Sweeps a shard of the blocks, (0, 2) being the even ones, and yields how many are done and their tallies.

    The folder keeps what was found, so that a sweep that was cut goes on where it was, unless the code has changed.
    """
    index, count = shard
    file, digest = folder / f"{name}.{index}of{count}.json", code(name)
    before = kept(file, digest)
    first, tallies = before.get("done", 0), [Tally(*tally) for tally in before.get("tallies", NOTHING)]
    if first:
        yield first, tallies
    blocks = range(index, BLOCKS, count)
    for done, (_, found) in enumerate(sweep(name, blocks[first:]), first + 1):
        tallies = total([tallies, found])
        if done % every == 0 or done == len(blocks):
            keep(file, digest, jax=jax.__version__, done=done, of=len(blocks), tallies=tallies)
        yield done, tallies


def complete(name: str, folder: Path) -> list[Tally] | None:
    """The tallies over every float32 number, if all shards of one count are there, complete and of this code."""
    digest = code(name)
    for first in sorted(folder.glob(f"{name}.0of*.json")):
        count = int(first.stem.rpartition("of")[2])
        shards = [kept(folder / f"{name}.{index}of{count}.json", digest) for index in range(count)]
        if all(shard and shard["done"] == shard["of"] for shard in shards):
            return total([Tally(*tally) for tally in shard["tallies"]] for shard in shards)
    return None
