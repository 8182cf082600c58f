"""A sweep on two nodes of Ray, one of which is killed in the middle of a run, in a process of its own.

python ray_nodes.py FOLDER
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from sweeping import network, task
from torchdecay.lab.engines.engine import Engine
from torchdecay.lab.engines.ray.cluster import connected
from torchdecay.lab.sweeps.result import Sweep
from torchdecay.lab.sweeps.sweep import sweep

FOLDER = Path(sys.argv[1] if __name__ == "__main__" else ".")
STEPS, LAST_PASS = 60, 30
HEALTH = {"initial_delay_ms": "1000", "period_ms": "1000", "timeout_ms": "5000", "failure_threshold": "3"}
VALUES, SEEDS = [0.1, 1.0, 3.0], 2


class Lost(nn.Module):
    """The network; tells its node and its passes in training. The first on the node to be lost waits to be lost."""

    def __init__(self, folder: Path) -> None:
        import ray

        super().__init__()
        self.inner, self.folder, self.passes = network(), folder, 0
        self.node, self.name = ray.get_runtime_context().get_node_id(), uuid.uuid4().hex

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.passes += 1
            (self.folder / f"{self.name}.passes").write_text(f"{self.node} {self.passes}")
            if self.passes == LAST_PASS and self.node == (self.folder / "lost").read_text():
                (self.folder / "waits").touch()
                time.sleep(600)
        return self.inner(x)


def swept(model: Callable[[], nn.Module], engine: str | Engine, store: Path | None = None) -> Sweep:
    counted = task(model=model, num_steps=STEPS, eval_every=2)
    return sweep(counted, "decoupled", VALUES, seeds=SEEDS, engine=engine, store=store)


def on_two_nodes() -> dict[str, Any]:
    """What the sweep came to, and the node and the passes of every try."""
    import ray
    from ray.cluster_utils import Cluster

    # A node that answers nobody is given up within seconds, not within half a minute.
    os.environ |= {f"RAY_health_check_{name}": number for name, number in HEALTH.items()}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes = [cluster.head_node, cluster.add_node(num_cpus=1)]
    with connected(cluster.address, num_cpus=1, runtime_env=None, timeout=60):
        cluster.wait_for_nodes()
        here = ray.get_runtime_context().get_node_id()
        (lost,) = (node for node in nodes if node.node_id != here)
        (FOLDER / "lost").write_text(lost.node_id)
        raylet = lost.all_processes["raylet"][0].process

        def lose() -> None:
            while not (FOLDER / "waits").exists():
                time.sleep(0.02)
            os.kill(raylet.pid, signal.SIGKILL)

        threading.Thread(target=lose, daemon=True).start()
        engine = Engine("ray", workers=2, storage=str(FOLDER / "shared"), checkpoint_seconds=0.0)
        found = swept(lambda: Lost(FOLDER), engine, FOLDER / "sweep.db")
        ended = raylet.poll()
    cluster.shutdown()
    tries = [file.read_text().split() for file in FOLDER.glob("*.passes")]
    return {"ray": found, "nodes": (here, lost.node_id), "ended": ended, "tries": [(of, int(n)) for of, n in tries]}


def main() -> None:
    told = {"serial": swept(network, "serial")} | on_two_nodes()
    (FOLDER / "told").write_bytes(pickle.dumps(told))


if __name__ == "__main__":
    main()
