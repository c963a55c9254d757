"""Two processes of two CPU devices each, on loopback: a vocabulary and a batch that are split over both."""

import socket
import subprocess
import sys

WORKER = """
import sys
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
import stablelogits_jax as sl

address, rank = sys.argv[1], int(sys.argv[2])
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(address, num_processes=2, process_id=rank, initialization_timeout=60)
assert (jax.device_count(), jax.local_device_count()) == (4, 2)
# Either axis goes through both processes: the devices of a row, and of a column, are of two.
mesh = Mesh(np.array(jax.devices()).reshape(2, 2).T, ("data", "model"))
rng = np.random.default_rng(0)
hidden, kernel = rng.normal(size=(6, 5)).astype(np.float32), rng.normal(size=(5, 14)).astype(np.float32)
labels, w = np.array([0, 13, 6, -1, 7, 12], np.int32), rng.random(6).astype(np.float32)
options = {"label_smoothing": 0.1, "z_loss": 0.01, "ignore_index": -1}
specs = P("data"), P(None, "model"), P("data"), P("data")
args = [
    jax.make_array_from_callback(a.shape, NamedSharding(mesh, spec), lambda i, a=a: a[i])
    for a, spec in zip((hidden, kernel, labels, w), specs)
]

def per_token(h, k, y, w):
    return jax.lax.psum(jnp.sum(w * sl.linear_softmax_cross_entropy(h, k, y, axis_name="model", **options)), "data")

def of_sum(h, k, y, w):
    return jax.lax.psum(sl.linear_softmax_cross_entropy_sum(h, k, y, w, axis_name="model", **options), "data")

def plain(h, k, y, w):
    return jnp.sum(w * sl.softmax_cross_entropy_with_integer_labels(h @ k, y, **options))

wanted = jax.jit(jax.value_and_grad(plain, (0, 1)))(hidden, kernel, labels, w)
for f in (per_token, of_sum):
    split = jax.shard_map(f, mesh=mesh, in_specs=specs, out_specs=P())
    loss, slopes = jax.jit(jax.value_and_grad(split, (0, 1)))(*args)
    np.testing.assert_allclose(loss.addressable_data(0), wanted[0], rtol=1e-6)
    for slope, whole in zip(slopes, wanted[1]):
        for shard in slope.addressable_shards:
            np.testing.assert_allclose(shard.data, np.asarray(whole)[shard.index], rtol=1e-5, atol=1e-6)
print("agrees", flush=True)
"""
PATIENCE = 240  # seconds


def test_two_processes():
    """Loss and slopes of each device's part are those of the whole, in one process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-c", WORKER, address]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    workers = [subprocess.Popen([*command, str(rank)], **pipes) for rank in range(2)]
    try:
        outputs = [worker.communicate(timeout=PATIENCE)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    for worker, output in zip(workers, outputs, strict=True):
        assert worker.returncode == 0, output
        assert "agrees" in output
