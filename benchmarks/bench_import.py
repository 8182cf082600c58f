"""What `import torchdecay` costs beyond `import torch`, in fresh interpreters."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

from paired import Check, Options, Spread, interleave, main, undisturbed

BEYOND = "import time, torch; start = time.perf_counter(); import torchdecay; print(time.perf_counter() - start)"


def run(code: str) -> str:
    # An installed package has its bytecode; where a shell forbids writing it, every import would compile the sources.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=env).stdout


def measure(options: Options) -> Iterator[Check]:
    run("import torchdecay")  # writes the bytecode, as an installation does
    yield Check(
        "import torchdecay where torch is imported already",
        Spread.of([float(undisturbed(lambda: run(BEYOND), options)) for _ in range(options.repeats)]),
        unit="ms",
        target=0.060,
    )
    pairs = interleave(lambda: run("import torchdecay"), lambda: run("import torch"), options, warmup=1)
    yield Check(
        "a process that imports torchdecay, beyond one that imports torch",
        Spread.of([ours - torchs for ours, torchs in pairs]),
        unit="ms",
        detail={"torchdecay": Spread.of([a for a, _ in pairs]), "torch": Spread.of([b for _, b in pairs])},
    )


if __name__ == "__main__":
    main("import", measure, repeats=11)
