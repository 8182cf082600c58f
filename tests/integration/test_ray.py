"""A Ray that does not answer is told at once, with what to do; tests/distributed runs sweeps on one."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from torchdecay.errors import MissingExtra, TaskError
from torchdecay.lab.engines.ray import cluster
from torchdecay.lab.engines.ray.cluster import connected


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:9", "no Ray answers.*refused"),
        ("no-such-host.invalid:6379", "no Ray answers"),
        ("ray://127.0.0.1:10001", "Ray client"),
        ("10.0.0.1", "HOST:PORT"),
    ],
)
def test_an_address_that_does_not_answer_is_told_at_once(address: str, said: str) -> None:
    """With the reason, before anything is run."""
    pytest.importorskip("ray")
    with pytest.raises(TaskError, match=said), connected(address, num_cpus=1, runtime_env=None, timeout=5):
        pytest.fail("connected to nothing")


def test_an_address_file_that_was_left_over_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At once: Ray itself would try the address for minutes."""
    pytest.importorskip("ray")
    file = tmp_path / "ray" / "ray_current_cluster"
    file.parent.mkdir()
    file.write_text("127.0.0.1:9")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(cluster, "_running", set)
    said = r'no Ray runs on this machine any more: .*ray_current_cluster names "127.0.0.1:9"'
    with pytest.raises(TaskError, match=said), connected("auto", num_cpus=1, runtime_env=None, timeout=60):
        pytest.fail("connected to nothing")


def test_something_else_that_listens_is_given_up_in_time() -> None:
    """Ray itself would try for minutes and then end the process."""
    pytest.importorskip("ray")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(TaskError, match="within 2 s"), connected(address, num_cpus=1, runtime_env=None, timeout=2):
            pytest.fail("connected to nothing")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is in the message."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(MissingExtra, match=r"torchdecay\[ray\]"),
        connected(None, num_cpus=1, runtime_env=None, timeout=1),
    ):
        pytest.fail("connected to nothing")
