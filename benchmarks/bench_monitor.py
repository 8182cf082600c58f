"""`td.Monitor` at its default interval over the same training without it, and the file that it writes."""

from __future__ import annotations

import dataclasses
import gc
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import torchdecay as td
from paired import Check, Options, Spread, main, ratio, timed, undisturbed
from shapes import gpt2, num_elements, parameters

EVERY = 100
"""The default of `every_steps`."""


class Unknown(torch.optim.Optimizer):
    """A signed momentum with decoupled decay, of a class that nobody knows."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 1e-3, "weight_decay": 0.1, "beta": 0.9})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for param in group["params"]:
                moment = self.state[param].setdefault("moment", torch.zeros_like(param))
                moment.lerp_(param.grad, 1 - group["beta"])
                param.mul_(1 - group["lr"] * group["weight_decay"]).sub_(moment.sign(), alpha=group["lr"])


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "fused AdamW": lambda groups: torch.optim.AdamW(groups, lr=1e-3, fused=True),
    "AdamW": lambda groups: torch.optim.AdamW(groups, lr=1e-3),
    "SGD": lambda groups: torch.optim.SGD(groups, lr=1e-2),
    "SGD with momentum": lambda groups: torch.optim.SGD(groups, lr=1e-2, momentum=0.9),
    "Adam, coupled": lambda groups: torch.optim.Adam(groups, lr=1e-3),
    "Muon": lambda groups: torch.optim.Muon(groups[:1], lr=1e-3),
    "a class that nobody knows": Unknown,
}
OFTEN = 50


class MLP:
    """Digits' shapes: 64-256-10, batch 64, a real forward and backward pass."""

    def __init__(self, name: str = "fused AdamW") -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
        self.optimizer = OPTIMIZERS[name](td.param_groups(self.model, 0.1))
        self.x, self.y = torch.randn(64, 64), torch.randint(0, 10, (64,))

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(self.x), self.y).backward()
            self.optimizer.step()


class Large:
    """The tensors of GPT-2 124M, each matrix used on some tokens, so that backward makes every gradient anew."""

    def __init__(self, tokens: int, *, width: int = 768, depth: int = 12, vocabulary: int = 50257) -> None:
        shapes = gpt2(width=width, depth=depth, vocabulary=vocabulary)
        self.params = parameters(shapes)
        named = {"weight_decay": 0.1, "params": [], "param_names": []}
        spared = {"weight_decay": 0.0, "params": [], "param_names": []}
        for name, param in self.params.items():
            group = named if param.dim() > 1 and not name.startswith(("wte", "wpe")) else spared
            group["params"].append(param)
            group["param_names"].append(name)
        self.optimizer = torch.optim.AdamW([named, spared], lr=1e-4, fused=True)
        self.ids = torch.randint(0, vocabulary, (tokens,))
        self.num_elements = num_elements(shapes)

    def loss(self) -> Tensor:
        p = self.params
        h = p["wte.weight"][self.ids] + p["wpe.weight"][: len(self.ids)]
        depth = sum(name.endswith("ln_1.weight") for name in p)
        for i in range(depth):
            b = {name.removeprefix(f"h.{i}."): one for name, one in p.items() if name.startswith(f"h.{i}.")}
            n = nn.functional.layer_norm(h, h.shape[-1:], b["ln_1.weight"], b["ln_1.bias"])
            q, k, v = (n @ b["attn.c_attn.weight"] + b["attn.c_attn.bias"]).chunk(3, -1)
            a = nn.functional.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
            h = h + a @ b["attn.c_proj.weight"] + b["attn.c_proj.bias"]
            n = nn.functional.layer_norm(h, h.shape[-1:], b["ln_2.weight"], b["ln_2.bias"])
            m = nn.functional.gelu(n @ b["mlp.c_fc.weight"] + b["mlp.c_fc.bias"])
            h = h + m @ b["mlp.c_proj.weight"] + b["mlp.c_proj.bias"]
        h = nn.functional.layer_norm(h, h.shape[-1:], p["ln_f.weight"], p["ln_f.bias"])
        return nn.functional.cross_entropy(h @ p["wte.weight"].T, self.ids.roll(-1))

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()


class Monitored:
    """The training with a monitor that writes a file, made anew each time, so that a record falls into each."""

    def __init__(self, train: Callable[[], None], optimizer: Any, folder: Path, every_steps: int = EVERY) -> None:
        self._train, self._optimizer, self._path, self._every = train, optimizer, folder / "run.jsonl", every_steps
        self.history = td.History()

    def __call__(self) -> None:
        with td.Monitor(self._optimizer, every_steps=self._every, path=self._path, if_exists="replace") as monitor:
            self._train()
        self.history = monitor.history


def by_class(options: Options, folder: Path) -> Iterator[Check]:
    """The same at twice as many records, for each way in which decay is measured."""
    steps = 200 if options.quick else 1000
    for name in OPTIMIZERS:
        mlp = MLP(name)
        mlp.train(20)
        work = Monitored(partial(mlp.train, steps), mlp.optimizer, folder, OFTEN)
        found = ratio(name, ("with", work), ("without", partial(mlp.train, steps)), options, target=1.03, warmup=1)
        measured = sum(not record.unmeasured for record in work.history)
        said = f"decay was measured in {measured} of {len(work.history.records)} records"
        yield dataclasses.replace(found, what=f"MLP, {name}, a record each {OFTEN} steps, {steps} steps; {said}")


def measure(options: Options) -> Iterator[Check]:
    folder = Path(tempfile.mkdtemp())
    mlp = MLP()
    mlp.train(20)
    # A monitor records its first step and every hundredth: 1, 100, ..., 1000 are eleven records in 1,000 steps.
    steps = 200 if options.quick else 1000
    yield ratio(
        f"MLP 64-256-10, batch 64: {steps} steps with a monitor over the same without",
        ("with", Monitored(lambda: mlp.train(steps), mlp.optimizer, folder)),
        ("without", lambda: mlp.train(steps)),
        options,
        target=1.05,
    )
    yield from by_class(options, folder)
    large = Large(8, width=64, depth=2, vocabulary=500) if options.quick else Large(32)
    large.step()
    yield from per_record(large, options, folder)
    yield from files(options, folder)


def per_record(large: Large, options: Options, folder: Path) -> Iterator[Check]:
    """A hundred steps take minutes, so that a step with a record is set against one without, and shared out."""
    pairs = []
    with td.Monitor(large.optimizer, every_steps=1, path=folder / "large.jsonl") as monitor:
        large.step()
        watches = [one._watch for one in monitor._watched]

        def with_record() -> float:
            return timed(large.step)

        def without() -> float:
            for watch in watches:
                watch._due = watch._ticks + 2
            return timed(large.step)

        def pair(turn: int) -> tuple[float, float]:
            if turn % 2:
                return with_record(), without()
            plain = without()
            return with_record(), plain

        for turn in range(options.repeats):
            pairs.append(undisturbed(lambda turn=turn: pair(turn), options))
    shares = [(EVERY * plain + (record - plain)) / (EVERY * plain) for record, plain in pairs]
    yield Check(
        f"GPT-2 ({large.num_elements:,} weights), fused AdamW, {len(large.ids)} tokens: {EVERY} steps, one with a "
        "record, over the same without",
        Spread.of(shares),
        target=1.02,
        detail={
            "step with a record": Spread.of([record for record, _ in pairs]),
            "step without": Spread.of([plain for _, plain in pairs]),
        },
    )
    # The harshest comparison: nothing but the optimizer's own step between two records.
    alone = []
    for _ in range(options.repeats):
        alone.append(undisturbed(lambda: timed(large.optimizer.step), options))
    extra = Spread.of([record - plain for record, plain in pairs]).median
    yield Check(
        f"the same over {EVERY} steps of the optimizer alone, without a forward or backward pass",
        Spread.of([1 + extra / (EVERY * one) for one in alone]),
    )


def files(options: Options, folder: Path) -> Iterator[Check]:
    """1,000 tensors, each a group of its own, over 1,000 records: twenty of a real monitor, fifty times over."""
    tensors, records, times_over = (100, 5, 2) if options.quick else (1000, 20, 50)
    params = [nn.Parameter(torch.randn(4, 4)) for _ in range(tensors)]
    names = [f"model.layers.{i}.self_attn.q_proj.weight" for i in range(tensors)]
    optimizer = torch.optim.AdamW([{"params": params, "param_names": names}], lr=1e-3, weight_decay=0.1)
    path = folder / "many.jsonl"
    with td.Monitor(optimizer, every_steps=1, by="tensor", path=path) as monitor:
        for _ in range(records):
            for param in params:
                param.grad = torch.randn(4, 4)
            optimizer.step()
    real = monitor.history
    path.unlink()
    history = dataclasses.replace(
        real,
        records=tuple(
            dataclasses.replace(one, step=turn * records + one.step)
            for turn in range(times_over)
            for one in real.records
        ),
    )
    history.save(path)
    size = path.stat().st_size
    yield Check(
        f"file of {len(history.records):,} records of {tensors:,} tensors, as a part of 100 MB",
        Spread.of([size / 100e6]),
        target=1.0,
    )
    times = []
    for _ in range(options.repeats):
        gc.collect()
        times.append(undisturbed(lambda: timed(lambda: td.History.load(path)), options))
    yield Check("loading it", Spread.of(times), unit="s", target=2.0)


if __name__ == "__main__":
    main("monitor", measure, repeats=11)
