"""One of the processes of test_hosts.py: `python host_worker.py COORDINATOR PROCESSES RANK FOLDER` leaves what it has
computed with the others in FOLDER/RANK.npz."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import stablelogits_jax as sl

DEVICES = [[0, 1, 4, 5], [6, 7, 2, 3]]  # 0 to 3 are of the first process: both axes span both
TOKENS, FEATURES, CLASSES, IGNORED = 24, 16, 36, -1


def arguments() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"hidden": (TOKENS, FEATURES), "kernel": (FEATURES, CLASSES), "bias": (CLASSES,), "weights": (CLASSES,)}
    given = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    given["weights"] = abs(given["weights"])
    labels = rng.permutation(CLASSES)[:TOKENS]
    given["labels"] = np.where(np.arange(TOKENS) % 5 == 4, IGNORED, labels).astype(np.int32)
    given["token_weights"] = rng.uniform(size=TOKENS).astype(np.float32)
    return given


SPECS = {
    "hidden": P("data"),
    "kernel": P(None, "model"),
    "bias": P("model"),
    "weights": P("model"),
    "labels": P("data"),
    "token_weights": P("data"),
}


def unsplit(given: dict, axis_name: str | None = None) -> dict[str, jax.Array]:
    """The loss of each token, and their weighted sum."""
    given, token_weights = dict(given), given["token_weights"]
    del given["token_weights"]
    options: Any = {"ignore_index": IGNORED, "label_smoothing": 0.1, "z_loss": 1e-3, "soft_cap": 20.0}
    loss = sl.linear_softmax_cross_entropy(**given, **options, axis_name=axis_name)
    total = sl.linear_softmax_cross_entropy_sum(token_weights=token_weights, **given, **options, axis_name=axis_name)
    return {"loss": loss, "sum": total if axis_name is None else jax.lax.psum(total, "data")}


def split(given: dict) -> dict[str, jax.Array]:
    out_specs = {"loss": P("data"), "sum": P()}
    return jax.shard_map(lambda given: unsplit(given, "model"), in_specs=(SPECS,), out_specs=out_specs)(given)


def results(f: Callable[[dict], dict], given: dict) -> dict[str, jax.Array]:
    """What f returns, and the slopes of each of it, where each token has a weight of its own."""
    moving = {name: x for name, x in given.items() if name != "labels"}
    found = dict(f(given))
    for name, y in f(given).items():
        _, pull = jax.vjp(lambda moving, name=name: f(given | moving)[name], moving)
        (slopes,) = pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))
        found |= {f"slope of the {name} along {x}": slope for x, slope in slopes.items()}
    return found


def main(coordinator: str, processes: str, rank: str, folder: str) -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 4)
    jax.distributed.initialize(
        coordinator,
        int(processes),
        int(rank),
        cluster_detection_method="deactivate",
        coordinator_bind_address=coordinator,
        shutdown_timeout_seconds=20,
    )
    mesh = Mesh(np.array(jax.devices())[np.array(DEVICES)], ("data", "model"))
    with jax.set_mesh(mesh):
        given = {
            name: jax.make_array_from_callback(x.shape, NamedSharding(mesh, SPECS[name]), x.__getitem__)
            for name, x in arguments().items()
        }
        found = jax.jit(lambda given: results(split, given), out_shardings=NamedSharding(mesh, P()))(given)
    np.savez(Path(folder) / f"{rank}.npz", **jax.device_get(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
