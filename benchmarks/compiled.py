"""What a compiled program says of itself: its memory, its flops, and what its devices tell one another."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import ClosedJaxpr, Jaxpr

KINDS = "all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all|ragged-all-to-all|collective-broadcast"
COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
CALLED = re.compile(r"(?:calls|to_apply|body|condition|called_computations|branch_computations)=(\{.*?\}|%[\w.-]+)")
COLLECTIVE = re.compile(rf"%([\w.-]+) = (.*?) ({KINDS})(-start|-done)?\(%([\w.-]+)")
ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")


class Collective(NamedTuple):
    kind: str
    devices: int  # that take part in one
    looped: bool  # whether it stands in the body of a loop
    arrays: int
    bytes: int  # of the results on one device

    def at_peak(self, port: float) -> float:
        """The seconds it takes on a ring that each device has two ports to, of so many bytes a second each way."""
        if self.kind == "collective-permute":
            return self.bytes / port
        whole = self.bytes * (self.devices if self.kind == "reduce-scatter" else 1)
        rounds = 2 if self.kind == "all-reduce" else 1
        return rounds * (1 - 1 / self.devices) * whole / (2 * port)


class Compiled(NamedTuple):
    """Bytes and flops are those of one device. Flops are XLA's, which counts the body of a loop once; the matmuls' are
    counted in the traced program, a scan's as often as it runs."""

    temporary: int
    arguments: int
    outputs: int
    flops: float | None
    matmul_flops: int
    seconds: float
    collectives: list[Collective]


def compile_for(f: Callable, arguments: Sequence[jax.ShapeDtypeStruct], **options: Any) -> Compiled:
    start = time.perf_counter()
    traced = jax.jit(f, **options).trace(*arguments)
    program = traced.lower().compile()
    seconds = time.perf_counter() - start
    memory, cost = program.memory_analysis(), program.cost_analysis() or {}
    assert memory is not None
    return Compiled(
        memory.temp_size_in_bytes,
        memory.argument_size_in_bytes,
        memory.output_size_in_bytes,
        cost.get("flops"),
        matmul_flops(traced.jaxpr.jaxpr),
        round(seconds, 1),
        collectives(program.as_text() or ""),
    )


def matmul_flops(jaxpr: Jaxpr) -> int:
    """Of the matrix products; of a program that is split by the compiler, on all devices together."""
    flops = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            left, result = (cast(ShapedArray, v.aval).shape for v in (eqn.invars[0], eqn.outvars[0]))
            flops += 2 * int(np.prod(result)) * int(np.prod([left[i] for i in contracted]))
        values = [v for value in eqn.params.values() for v in (value if isinstance(value, list | tuple) else [value])]
        inner = [v.jaxpr if isinstance(v, ClosedJaxpr) else v for v in values if isinstance(v, ClosedJaxpr | Jaxpr)]
        counts = [matmul_flops(j) for j in inner]
        if eqn.primitive.name == "cond":
            flops += max(counts)
        else:
            flops += eqn.params.get("length", 1) * sum(counts)
    return flops


def collectives(text: str) -> list[Collective]:
    """Those of a program's text, alike ones together. An asynchronous one counts where it is done."""
    lines = dict(computations(text))
    in_loops, left = set(), [c for body in lines.values() for line in body if " while(" in line for c in called(line)]
    while left:
        name = left.pop()
        if name not in in_loops:
            in_loops.add(name)
            left += [c for line in lines.get(name, []) for c in called(line)]
    found: dict[tuple[str, int, bool], list[int]] = {}
    for name, body in lines.items():
        devices: dict[str, int] = {}
        for line in body:
            if match := COLLECTIVE.search(line):
                result, types, kind, asynchronous, operand = match.groups()
                devices[result] = devices[operand] if asynchronous == "-done" else group(line)
                if asynchronous != "-start":
                    sizes = [size(*array) for array in ARRAY.findall(types)]
                    if name.startswith("all-reduce-scatter"):  # how XLA:TPU writes a reduce-scatter
                        kind, sizes = "reduce-scatter", [n // devices[result] for n in sizes]
                    found.setdefault((kind, devices[result], name in in_loops), []).extend(sizes)
    return sorted(Collective(*key, len(sizes), sum(sizes)) for key, sizes in found.items())


def computations(text: str) -> Iterator[tuple[str, list[str]]]:
    name, body = "", []
    for line in text.splitlines():
        if header := COMPUTATION.match(line):
            name, body = header[1], []
        elif line == "}":
            yield name, body
        else:
            body.append(line)


def called(line: str) -> list[str]:
    return [name.strip("{} %") for names in CALLED.findall(line) for name in names.split(",")]


def size(kind: str, bits: str, shape: str) -> int:
    return int(np.prod([int(n) for n in shape.split(",") if n])) * (1 if kind == "pred" else int(bits)) // 8


def group(line: str) -> int:
    """How many devices take part: XLA writes groups out, or as a reshaped range, or as axes of a mesh."""
    if written := re.search(r"(?:replica_groups|source_target_pairs)=\{\{([\d,]*)\}", line):
        return written[1].count(",") + 1
    if ranged := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(ranged[1])
    if axes := re.search(r"replica_groups=mesh\[(.*?)\] \{(.*?)\}", line):
        lengths = dict(re.findall(r"'(\w+)'=(\d+)", axes[1]))
        return int(np.prod([int(lengths[axis]) for axis in re.findall(r"'(\w+)'", axes[2])]))
    raise ValueError(f"no groups of devices in: {line}")
