"""`td.plan` on transformers of 1,000, 10,000 and 100,000 parameter tensors on the meta device.

Its time is compared with that of walking the model, `list(model.named_parameters())`, best of three each.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

from torch import nn

import torchdecay as td
from paired import Check, Options, Spread, main, timed, undisturbed

PER_LAYER = 12
SIZES = (1_000, 10_000, 100_000)


def model_of(num_params: int) -> nn.Module:
    """Transformer layers on the meta device, rounded up to a whole layer."""
    layers = -(-num_params // PER_LAYER)
    return nn.ModuleList(nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, device="meta") for _ in range(layers))


def best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of three calls."""
    return min(timed(work) for _ in range(3))


def measure(options: Options) -> Iterator[Check]:
    sizes = SIZES[:2] if options.quick else SIZES
    models = {size: model_of(size) for size in sizes}
    times: dict[int, list[float]] = {size: [] for size in sizes}
    walks: list[float] = []
    for _ in range(options.repeats):
        for size, model in models.items():
            gc.collect()
            times[size].append(undisturbed(lambda model=model: best(lambda: td.plan(model, 0.1)), options))
        walks.append(undisturbed(lambda model=model: best(lambda: list(model.named_parameters())), options))
    small, large = sizes[0], sizes[-1]
    for size in sizes:
        yield Check(f"td.plan of {size:,} parameters", Spread.of(times[size]), unit="s")
    yield Check(
        f"td.plan of {large:,} parameters over list(model.named_parameters())",
        Spread.of([plan / walk for plan, walk in zip(times[large], walks, strict=True)]),
        target=8.0,
    )
    growth = [
        (t_large / large) / (t_small / small) for t_small, t_large in zip(times[small], times[large], strict=True)
    ]
    yield Check(
        f"time per parameter at {large:,} over that at {small:,} (linear is 1)",
        Spread.of(growth),
        target=1.5,
    )


if __name__ == "__main__":
    main("plan", measure, repeats=5)
