"""A Ray to work with: the one that is there, the one at an address, or one of our own."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torchdecay.errors import TaskError, need
from torchdecay.text import printable, repr_quoted

QUIET = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}

# What joining an address does, tried in another process first: where nobody answers, Ray waits for minutes or ends the
# process that asked.
KNOCK = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, logging_level=40); ray.shutdown()"


@contextlib.contextmanager
def connected(
    address: str | None, *, num_cpus: int, runtime_env: Mapping[str, Any] | None, timeout: float
) -> Iterator[None]:
    """This process is connected to a Ray inside the block; afterwards it is as it was before.

    Raises:
        TaskError: the address does not answer, is of a kind that can't be used, or Ray does not start.
        MissingExtra: Ray is not installed.
    """
    ray = need("ray", "ray")
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    env = None if runtime_env is None else dict(runtime_env)
    quiet = {"RAY_USAGE_STATS_ENABLED": "0"} if address == "local" else {}
    try:
        with environment(**quiet):
            if address == "local":
                ray.init(address="local", num_cpus=num_cpus, runtime_env=env, **QUIET)
            else:
                _knock(address, timeout)
                ray.init(address=address, runtime_env=env, log_to_driver=False, logging_level=logging.ERROR)
    except TaskError:
        raise
    except Exception as error:
        ray.shutdown()
        what = "Ray does not start here" if address == "local" else f"the Ray at {repr_quoted(address)} can't be used"
        raise TaskError(f"{what}: {_first_line(error)}.", fix='Run it without Ray: engine="process".') from error
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """Environment variables that are set inside the block, where the user has not set them."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def check_resources(cpus: float, gpus: float) -> None:
    """Refuse what no node has: Ray would wait for it for ever.

    Raises:
        TaskError: no node is as large as that.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        return
    there = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes)
    raise TaskError(
        f"a trial is to have {cpus:g} CPUs and {gpus:g} GPUs, and no node has that many.",
        f"The nodes have: {there}.",
        "Ask for less with num_cpus and num_gpus (--ray-cpus, --ray-gpus), or add a node.",
    )


def _knock(address: str, timeout: float) -> None:
    if address.startswith("ray://"):
        raise TaskError(
            f"the address {repr_quoted(address)} is that of a Ray client.",
            "Through it the sweep itself would run on the cluster, and could not write here.",
            "Call from a node of the cluster with HOST:PORT or auto, or with: ray job submit -- torchdecay sweep ...",
        )
    if address == "auto":
        _refuse_left_over(timeout)
    else:
        _reach(address, timeout)
    try:
        done = subprocess.run(
            [sys.executable, "-c", KNOCK, address], capture_output=True, text=True, timeout=timeout, errors="replace"
        )
    except subprocess.TimeoutExpired as error:
        raise _silent(address, f"something listens there, but did not answer as a Ray does within {timeout:g} s") from (
            error
        )
    if done.returncode and "AuthToken" in done.stderr:
        raise TaskError(
            f"the Ray at {repr_quoted(address)} asks for a token.",
            "Ray shows none to an address that was typed, unless it is told to.",
            "Set RAY_AUTH_MODE=token, with the cluster's token in ~/.ray/auth_token; or write auto on its nodes.",
        )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason was given"]
        raise _silent(address, printable(said[-1]).rstrip("."))


def _refuse_left_over(timeout: float) -> None:
    """The file by which Ray finds the one on this machine may be of one that was killed: it waits there for minutes."""
    file = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    if not file.exists() or _running():
        return
    address = file.read_text(encoding="utf-8").strip()
    try:
        _reach(address, timeout)
    except TaskError as error:
        raise TaskError(
            f"no Ray runs on this machine any more: {file} names {repr_quoted(address)}, where none answers.",
            "One that was killed has left it.",
            "`ray stop` takes it away, `ray start --head` starts another; without an address one is started here.",
        ) from error


def _running() -> set[str]:
    """The addresses of those that run on this machine."""
    from ray._private.services import find_gcs_addresses

    # What it finds Ray remembers for the rest of the process.
    found: set[str] = getattr(find_gcs_addresses, "__wrapped__", find_gcs_addresses)()
    return found


def _reach(address: str, timeout: float) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise TaskError(
            f"{repr_quoted(address)} is no address of a Ray cluster.",
            fix="Write HOST:PORT as `ray start --head` prints it, 10.0.0.1:6379 say, or auto.",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout).close()
    except (OSError, OverflowError) as error:
        told = f"nothing came back within {timeout:g} s" if isinstance(error, TimeoutError) else _first_line(error)
        raise _silent(address, told) from error


def _silent(address: str, why: str) -> TaskError:
    return TaskError(
        f"no Ray answers at {repr_quoted(address)}: {why}.",
        "Workers of the sweep would run there.",
        "See `ray status` on the cluster's head; without an address Ray is started on this machine.",
    )


def _first_line(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(text.strip().splitlines()[0]).rstrip(".")
