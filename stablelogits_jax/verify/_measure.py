"""An implementation beside the truth: the worst error on a grid, for value, slope and curvature."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stablelogits_jax.verify._metric import Exact, ulp_error
from stablelogits_jax.verify._spec import Spec, truth

TYPES = ("float64", "float32", "bfloat16", "float16")
RESULTS = {"value": 0, "slope, forward mode": 1, "slope, reverse mode": 1, "curvature": 2}  # with their orders


class Finding(NamedTuple):
    """The worst result of one order of derivative."""

    what: str
    ulps: float
    budget: float
    args: tuple
    got: float
    truth: float
    broken: int  # results that are NaN or infinite where the truth is a finite number of the type
    over_half: float  # the share of results that are not correctly rounded


@contextmanager
def float64_where_needed(dtype: Any) -> Iterator[None]:
    """JAX as its users run it: 64-bit types only where the type under test is one."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", jnp.dtype(dtype).itemsize == 8)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def derivatives(f: Callable, args: Sequence[jax.Array], wrt: Sequence[int], order: int = 2) -> tuple[jax.Array, ...]:
    """Value [R, m], slope in forward and in reverse mode [R, m, k], and curvature, forward over reverse [R, m, k, k].

    `f` maps R independent examples to m numbers each; k counts the numbers of an example in the arguments `wrt`.
    One argument moves at a time: no derivative rule can keep a tangent of 0 from an infinite slope that it multiplies.
    """
    examples = args[0].shape[0]

    def rows(x):
        return x.reshape(examples, -1)

    def unit(count, like):  # [count, R, count]: the same unit vector in each example
        return jnp.broadcast_to(jnp.eye(count, dtype=like.dtype)[:, None, :], (count, examples, count))

    def of_wrt(*moving):
        given = dict(zip(wrt, moving, strict=True))
        return rows(f(*[given.get(i, a) for i, a in enumerate(args)]))

    def reverse(*moving):
        y, pullback = jax.vjp(of_wrt, *moving)
        gradients = jax.vmap(lambda v: jnp.concatenate([rows(g) for g in pullback(v)], axis=1))(unit(y.shape[1], y))
        return jnp.moveaxis(gradients, 0, 1)

    def forward(g, *moving):
        columns = []
        for i, x in enumerate(moving):
            alone = partial(_at, g, moving, i)
            push = jax.vmap(lambda v, x=x, alone=alone: jax.jvp(alone, (x,), (v.reshape(x.shape),))[1])
            columns.append(push(unit(rows(x).shape[1], x)))
        return jnp.moveaxis(jnp.concatenate(columns), 0, -1)

    moving = [args[i] for i in wrt]
    results = [of_wrt(*moving)]
    if order >= 1:
        results += [forward(of_wrt, *moving), reverse(*moving)]
    if order >= 2:
        results += [forward(reverse, *moving)]
    return tuple(results)


def _at(g: Callable, moving: Sequence[jax.Array], i: int, x: jax.Array) -> jax.Array:
    return g(*moving[:i], x, *moving[i + 1 :])


def digest(lowered: jax.stages.Lowered) -> str:
    """Of what JAX lowers, before XLA: the code that a figure is of."""
    return hashlib.sha256(lowered.as_text().encode()).hexdigest()[:16]


def flat_digest(jaxpr: Any) -> str:
    """Of what JAX traces, with every inner function in its place: what is lowered shares them as caches have it."""
    return hashlib.sha256("\n".join(_lines(jaxpr)).encode()).hexdigest()[:16]


def _lines(jaxpr: Any) -> Iterator[str]:
    for const in getattr(jaxpr, "consts", ()):
        yield f"{np.asarray(const).tobytes()!r}"
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    numbers: dict[Any, int] = {}

    def said(atom: Any) -> str:
        return str(atom.val) if hasattr(atom, "val") else f"{numbers.setdefault(atom, len(numbers))}:{atom.aval}"

    for equation in jaxpr.eqns:
        yield f"{equation.primitive} {[said(a) for a in (*equation.invars, *equation.outvars)]}"
        for name, value in sorted(equation.params.items()):
            for part in value if isinstance(value, (tuple, list)) else [value]:
                if hasattr(part, "eqns") or hasattr(part, "jaxpr"):
                    yield from _lines(part)
                elif not callable(part) and " at 0x" not in repr(part):
                    yield f"{name} {part!r}"


def code(spec: Spec, dtype: Any) -> str:
    """The digest of what `measure` compiles of ours, and of the numbers that it is given."""
    grid = spec.grid(jnp.dtype(dtype))
    with float64_where_needed(dtype):
        of = jax.jit(lambda *a: derivatives(spec.ours(), a, spec.wrt)).trace(*map(jnp.asarray, grid))
    numbers = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in grid)).hexdigest()[:16]
    return f"{flat_digest(of.jaxpr)} {numbers}"


def result(spec: Spec, dtype: Any) -> Any:
    """The type of what ours returns."""
    with float64_where_needed(dtype):
        return jax.eval_shape(spec.ours(), *map(jnp.asarray, spec.grid(jnp.dtype(dtype)))).dtype


def measure(f: Callable, spec: Spec, dtype: Any, run: Callable = jax.jit, order: int = 2) -> list[Finding]:
    """The worst error of `f` on the grid of a type, up to an order; `run` is what the computation goes through."""
    dtype = jnp.dtype(dtype)
    args = spec.grid(dtype)
    with float64_where_needed(dtype):
        results = run(lambda *a: derivatives(f, a, spec.wrt, order))(*map(jnp.asarray, args))
        results = [np.asarray(r) for r in results]
    exact = truth(spec, dtype, order)
    return [
        _worst(what, result, exact[n], spec, n, args)
        for (what, n), result in zip(RESULTS.items(), results, strict=False)
    ]


def _worst(what: str, result: np.ndarray, exact: Exact, spec: Spec, order: int, args: Sequence[np.ndarray]) -> Finding:
    wide, scale = [a.astype(np.float64) for a in args], spec.scale[order]
    with np.errstate(over="ignore"):  # of what is beyond float64, where the truth is infinite
        errors = ulp_error(result, exact, 0.0 if scale is None else scale(exact.rounded(), *wide))
    at = np.unravel_index(np.argmax(errors), errors.shape)
    limit = jnp.finfo(result.dtype).maxexp
    finite = np.isfinite(exact.high) & (exact.exponent < limit)
    broken = int(np.sum(finite & ~np.isfinite(result.astype(np.float64))))
    point = tuple(a[at[0]].tolist() for a in wide)
    budget = spec.allowed(order, result.dtype)
    over_half = float(np.mean(errors > 0.5))
    truth = float(exact.rounded()[at])
    return Finding(what, float(errors[at]), budget, point, float(result[at]), truth, broken, over_half)
