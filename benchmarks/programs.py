"""What is compiled ahead of time: every public function, and the linear loss at Llama-3's head."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from compiled import Compiled, compile_for
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from machines import MACHINES, argument, mesh

import stablelogits_jax as sl
from stablelogits_jax.verify._spec import Spec
from stablelogits_jax.verify._specs import SPECS

DTYPES = ("float32", "bfloat16")
NUMBERS, ROWS, CLASSES = 1_000_000, 1024, 32768
SHAPES = {  # of arguments that are neither numbers nor rows of classes
    "ordinal_cross_entropy": [(NUMBERS,), (NUMBERS,), (NUMBERS, 3)],
    "info_nce_loss": [(8192, 1024)] * 2,
    "sigmoid_contrastive_loss": [(8192, 1024)] * 2,
}

TOKENS, FEATURES, VOCABULARY = 8192, 4096, 128256  # Llama-3's head
SHARE = 4096  # tokens on each device of the data axis: TOKENS over the 2 of the first mesh
LINEAR = ("linear_softmax_cross_entropy", "linear_softmax_cross_entropy_sum", "linear_token_statistics")
OPTAX = "optax on hidden @ kernel"
MESHES = (  # a topology, and its devices along the data axis and along the model axis
    ("v5e:2x4", (2, 4)),
    ("v5e:4x4", (4, 4)),
    ("v5e:8x8", (16, 4)),
    ("v5e:8x8", (8, 8)),
    ("v5e:16x16", (64, 4)),
    ("v5e:16x16", (16, 16)),
    ("v5p:4x4x4", (16, 4)),
    ("v5p:4x8x8", (64, 4)),
    ("v5p:4x8x8", (32, 8)),
)


class Program(NamedTuple):
    name: dict[str, Any]
    compile: Callable[[], Compiled]

    def run(self) -> dict[str, Any]:
        """The name and what was found, as plain data; of what does not compile the error's first line."""
        try:
            found = self.compile()
        except Exception as error:  # whatever the compiler raises
            return self.name | {"error": f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"}
        return self.name | found._asdict() | {"collectives": [c._asdict() for c in found.collectives]}


def functions(machines: Sequence[str]) -> Iterator[Program]:
    """Each public function, without options where the table has such a row, in each type for each machine."""
    rows = {spec.name: spec for spec in sorted(SPECS, key=lambda spec: not spec.options) if spec.name not in LINEAR}
    for name, spec in sorted(rows.items()):
        for dtype in DTYPES:
            for machine in machines:
                of = {"function": name, "dtype": dtype, "machine": machine}
                yield Program(of, partial(value_and_gradient, spec, dtype, machine))


def value_and_gradient(spec: Spec, dtype: str, machine: str) -> Compiled:
    f, one = spec.ours(), mesh(MACHINES[machine])
    grid = spec.grid(jnp.dtype(dtype))
    examples = ROWS if any(a.ndim > 1 for a in grid) else NUMBERS
    shapes = SHAPES.get(spec.name) or [(examples, CLASSES)[: a.ndim] for a in grid]
    args = [argument(shape, a.dtype, one) for shape, a in zip(shapes, grid, strict=True)]

    def both(cotangent: jax.Array, *args: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        def of_differentiated(*differentiated: jax.Array) -> jax.Array:
            given = dict(zip(spec.wrt, differentiated, strict=True))
            return f(*(given.get(i, a) for i, a in enumerate(args)))

        value, pull = jax.vjp(of_differentiated, *(args[i] for i in spec.wrt))
        return value, pull(cotangent)

    value = jax.eval_shape(f, *args)
    return compile_for(both, [argument(value.shape, value.dtype, one), *args])


def head(machines: Sequence[str]) -> Iterator[Program]:
    """Llama-3's head on one device."""
    for name, f in losses(2).items():
        for machine in machines:
            yield Program({"loss": name, "machine": machine}, partial(at_head, f, MACHINES[machine]))


def meshes(machines: Sequence[str]) -> Iterator[Program]:
    """Llama-3's head with the classes over the model axis and the tokens over the data axis; the kernel's features
    whole on each device of the data axis, or split over it; optax on the first mesh alone."""
    for topology, shape in MESHES:
        for name, f in losses(1).items():
            for features in ("whole", "split"):
                if topology.partition(":")[0] in machines and (name != OPTAX or topology == MESHES[0][0]):
                    of = dict(zip(("loss", "topology", "data", "model"), (name, topology, *shape), strict=True))
                    yield Program(of | {"features": features}, partial(at_head, f, topology, shape, features))


def losses(count: int) -> dict[str, Callable]:
    return {name: getattr(sl, name) for name in LINEAR[:count]} | {OPTAX: on_logits}


def on_logits(hidden: jax.Array, kernel: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(hidden @ kernel, labels)


def at_head(f: Callable, topology: str, shape: tuple[int, int] = (1, 1), features: str = "whole") -> Compiled:
    """Value and gradient of the mean loss, by the hidden states and by the kernel."""
    on = mesh(topology, shape)
    tokens = SHARE * shape[0] if on.size > 1 else TOKENS
    hidden = argument((tokens, FEATURES), jnp.bfloat16, on, "data")
    kernel = argument((FEATURES, VOCABULARY), jnp.bfloat16, on, "data" if features == "split" else None, "model")
    labels = argument((tokens,), jnp.int32, on, "data")
    per_token = f if f is on_logits or on.size == 1 else split(f, on)

    def mean(*args: jax.Array) -> jax.Array:
        return jnp.mean(per_token(*args), dtype=jnp.float32)

    results = None, (hidden.sharding, kernel.sharding)
    compiled = compile_for(jax.value_and_grad(mean, (0, 1)), [hidden, kernel, labels], out_shardings=results)
    if per_token is on_logits:  # the compiler splits it: what is traced is the whole
        return compiled._replace(matmul_flops=compiled.matmul_flops // on.size)
    return compiled


def split(f: Callable, on: Mesh) -> Callable:
    """The classes over the model axis, the tokens over the data axis. A kernel whose features are split is gathered."""
    specs = P("data"), P(None, "model"), P("data")
    return jax.shard_map(partial(f, axis_name="model"), mesh=on, in_specs=specs, out_specs=P("data"))
