"""Two processes of four CPU devices each, as two hosts would be: the same numbers as of one process and one device."""

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest
from host_worker import arguments, results, unsplit

PROCESSES = 2
SECONDS = 120  # far more than it takes, far less than for ever


def run(command: list[str]) -> tuple[int | None, str]:
    """The exit code, None if it did not end by itself, and what was printed."""
    code = printed = None
    try:
        ended = subprocess.run(command, timeout=SECONDS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        code, printed = ended.returncode, ended.stdout
    except subprocess.TimeoutExpired as late:
        printed = late.stdout
    return code, (printed or b"").decode(errors="replace")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def found(tmp_path):
    worker = Path(__file__).parent / "host_worker.py"
    command = [sys.executable, str(worker), f"127.0.0.1:{free_port()}", str(PROCESSES)]
    with ThreadPoolExecutor(PROCESSES) as pool:
        ended = list(pool.map(run, ([*command, str(rank), str(tmp_path)] for rank in range(PROCESSES))))
    report = "\n".join(f"--- process {rank}, exit code {code}\n{text}" for rank, (code, text) in enumerate(ended))
    assert all(code == 0 for code, _ in ended), report
    return [dict(np.load(tmp_path / f"{rank}.npz")) for rank in range(PROCESSES)]


def test_two_processes(found):
    """Losses, their sum, and the gradients of both, with the tokens and the classes split over both processes."""
    with jax.default_device(jax.devices("cpu")[0]):
        wanted = jax.jit(lambda given: results(unsplit, given))(arguments())
    assert len(wanted) == 2 * 6
    for of_process in found:
        assert of_process.keys() == wanted.keys()
        for name, x in wanted.items():
            np.testing.assert_allclose(of_process[name], x, rtol=0, atol=2e-6 * np.max(np.abs(x)), err_msg=name)
