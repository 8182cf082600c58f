"""What `import torchdecay`, a first plan and `torchdecay --help` cost, in fresh interpreters."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

from paired import Check, Options, Spread, interleave, main, undisturbed

TIMED = "{before}; start = time.perf_counter(); {code}; print(time.perf_counter() - start)"
PLAN = "import torchdecay as td; td.plan(model, 0.1)"


def run(*words: str) -> str:
    # An installed package has its bytecode; where a shell forbids writing it, every import would compile the sources.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True, env=env).stdout


def timed(code: str, before: str, options: Options) -> Spread:
    """Seconds that the code takes in processes in which `before` was run."""
    words = ("-c", TIMED.format(before=before, code=code))
    run(*words)  # writes the bytecode, as an installation does
    return Spread.of([float(undisturbed(lambda: run(*words), options)) for _ in range(options.repeats)])


def measure(options: Options) -> Iterator[Check]:
    yield Check("import torchdecay", timed("import torchdecay", "import time", options), unit="ms", target=0.015)
    torch = "import time, torch; model = torch.nn.Linear(2, 1)"
    yield Check("import torchdecay and a first td.plan, beyond import torch", timed(PLAN, torch, options), "ms", 0.060)
    convert = ("convert", "0.1", "decoupled", "half_life", "--lr", "1e-3")
    for words, target in ((("--help",), 0.150), (("--version",), None), (convert, None)):
        pairs = interleave(lambda w=words: run("-m", "torchdecay", *w), lambda: run("-c", "pass"), options, warmup=1)
        yield Check(
            f"torchdecay {' '.join(words)}, beyond python -c pass",
            Spread.of([ours - bare for ours, bare in pairs]),
            unit="ms",
            target=target,
            detail={"torchdecay": Spread.of([a for a, _ in pairs]), "python": Spread.of([b for _, b in pairs])},
        )


if __name__ == "__main__":
    main("import", measure, repeats=11)
