"""Many runs as one stacked model, against the same runs one after the other in plain torch with the fused optimizer."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paired import Check, Options, Spread, interleave, main, ratio
from torchdecay.lab import task_named
from torchdecay.lab.engines.engine import Engine
from torchdecay.lab.engines.stacked.engine import run
from torchdecay.lab.engines.stacked.fit import fitted
from torchdecay.lab.engines.stacked.loop import StackedRun
from torchdecay.lab.tasks.task import Data, Task
from torchdecay.lab.training.contenders import as_contender
from torchdecay.lab.training.trial import Assignment, Trial

ENDLESS = 10**9


def measure(options: Options) -> Iterator[Check]:
    few = options.quick
    wide, narrow = network(64, 256, 10, batch=64), network(64, 64, 10, batch=32)
    for compile in (False, True):
        how = "compiled" if compile else "as it is"
        for what, task, values, seeds, target in (
            ("64-256-10, batch 64, 16 x 3", wide, 4 if few else 16, 3, None),
            ("64-64-10, batch 32, 64 members", narrow, 8 if few else 64, 1, None if few else 10.0),
        ):
            yield step_against_plain(f"{what}, step {how}", task, values, seeds, options, compile, target)
        values = 4 if few else 16
        yield share_of_peak(
            f"64-256-10, batch 64, 16 x 3, step {how}", wide, values, 3, options, compile, 0.6 if compile else None
        )
    yield products_alone("64-256-10, batch 64, 16 x 3, its matrix products alone", wide, 4 if few else 16, 3, options)
    yield share_of_peak("overfit, 16 values, step as it is", task_named("overfit"), 2 if few else 16, 1, options, False)
    # Thousands of steps are many measurements already.
    long = dataclasses.replace(options, repeats=1)
    num_steps, target = (30, None) if few else (1000, 2.2)
    yield sweep_against_plain(wide, num_steps, 2 if few else 16, 1 if few else 3, long, target)
    yield auto_against_plain("digits", 20 if few else 500, 2 if few else 16, 1 if few else 2, long)
    yield auto_against_plain("overfit", 2 if few else 30, 2 if few else 16, 1, long)


def network(*widths: int, batch: int) -> Task:
    """Gaussian rows in ten classes, an MLP, AdamW with its fused kernel."""

    def data(seed: int) -> Data:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(2000, widths[0], generator=generator)
        y = torch.randint(widths[-1], (2000,), generator=generator)
        return Data(train=(x[:1500], y[:1500]), test=(x[1500:], y[1500:]))

    def model() -> nn.Module:
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
        return nn.Sequential(*[one for layer in layers for one in (layer, nn.ReLU())][:-1])

    return Task(
        name="network",
        data=data,
        model=model,
        loss=F.cross_entropy,
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=1e-3, fused=True),
        num_steps=1000,
        batch_size=batch,
        eval_every=ENDLESS,
    )


def trials_of(values: int, seeds: int) -> list[Trial]:
    return [
        Trial(contender=as_contender(f"decoupled:{0.01 * 1.5**index}"), seed=seed, value=0.01 * 1.5**index)
        for index in range(values)
        for seed in range(seeds)
    ]


class Plain:
    """What people write: a model, the optimizer's own weight_decay, a loop."""

    def __init__(self, task: Task, trial: Trial) -> None:
        self.task, self.data = task, task.data(trial.seed)
        torch.manual_seed(trial.seed)
        self.model = task.model()
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim < 2]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": trial.value},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self.optimizer = task.optimizer([group | {"fused": True} for group in groups])
        self.rows = self._rows()

    def _rows(self) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = self.data.train
        size = self.task.batch_size or len(x)
        while size >= len(x):
            yield x, y
        while True:
            for picked in torch.randperm(len(x)).split(size)[: len(x) // size]:
                yield x[picked], y[picked]

    def steps(self, count: int) -> None:
        for _ in range(count):
            x, y = next(self.rows)
            self.optimizer.zero_grad()
            self.task.loss(self.model(x), y).backward()
            self.optimizer.step()

    @torch.no_grad()
    def measure(self) -> list[float]:
        return [float(self.task.loss(self.model(x), y)) for x, y in self.data.parts.values()]

    def train(self) -> None:
        """All steps, measured as often as the task says."""
        for done in range(0, self.task.num_steps, every := min(self.task.eval_every, self.task.num_steps)):
            self.measure()
            self.steps(min(every, self.task.num_steps - done))
        self.measure()


def stack_of(task: Task, values: int, seeds: int, compile: bool) -> StackedRun:
    """A stack that has begun, and is never at a point of its curves again."""
    endless = dataclasses.replace(task, num_steps=ENDLESS, eval_every=ENDLESS)
    prepared = fitted(endless, trials_of(values, seeds))
    assignment = Assignment(task=endless, trials=(), on_run=lambda *_: None)
    made = StackedRun(assignment, prepared, prepared.members, compile=compile)
    made.advance(3)
    return made


def step_against_plain(
    what: str, task: Task, values: int, seeds: int, options: Options, compile: bool, target: float | None
) -> Check:
    """Time of a step of one run times their number, over time of a step of the stack."""
    stack, plain, members = stack_of(task, values, seeds, compile), Plain(task, trials_of(1, 1)[0]), values * seeds
    plain.steps(20)
    count = 5 if options.quick else 50

    def stacked() -> None:
        stack.advance(stack.step + count)

    # As many member-steps in one go as in the other, in at most twenty steps' worth of the stack's.
    pairs = interleave(lambda: plain.steps(count * 4), stacked, options)
    alone = [a / (count * 4) for a, _ in pairs]
    together = [b / count for _, b in pairs]
    ratios = [members * a / b for a, b in zip(alone, together, strict=True)]
    detail = {"one run": Spread.of(alone), f"{members} stacked": Spread.of(together)}
    return Check(f"{what}: times as fast", Spread.of(ratios), target=target, sense="at least", detail=detail)


def share_of_peak(
    what: str, task: Task, values: int, seeds: int, options: Options, compile: bool, target: float | None = None
) -> Check:
    """Multiplications that a step's matrix products need, by its time, over those of one large product by its."""
    stack = stack_of(task, values, seeds, compile)
    return _share(what, task, values * seeds, lambda count: stack.advance(stack.step + count), options, target)


def products_alone(what: str, task: Task, values: int, seeds: int, options: Options) -> Check:
    """The same of a step's products and nothing else, in the layouts of the stack: what no step can pass."""
    members, x = values * seeds, torch.randn(values * seeds, task.batch_size or 1, task.data(0).train[0].shape[1])
    weights = [
        torch.randn(members, *layer.weight.shape) for layer in task.model().modules() if isinstance(layer, nn.Linear)
    ]
    grads, given = [torch.empty_like(weight) for weight in weights], [x.transpose(1, 2)]
    given += [torch.empty(members, weight.shape[1], x.shape[1]) for weight in weights]
    backs = [torch.randn(one.shape) for one in given]

    def step(count: int) -> None:
        for _ in range(count):
            for k, weight in enumerate(weights):
                torch.bmm(weight, given[k], out=given[k + 1])
            for k in reversed(range(len(weights))):
                torch.bmm(backs[k + 1], given[k].transpose(1, 2), out=grads[k])
                if k:
                    torch.bmm(weights[k].transpose(1, 2), backs[k + 1], out=backs[k])

    return _share(what, task, members, step, options, None)


def _share(
    what: str, task: Task, members: int, steps: Callable[[int], object], options: Options, target: float | None
) -> Check:
    sizes = [layer.weight.numel() for layer in task.model().modules() if isinstance(layer, nn.Linear)]
    rows = min(task.batch_size or ENDLESS, len(task.data(0).train[0]))
    # Forward, gradient of the weights, and gradient of the inputs of all layers but the first.
    needed = 2 * rows * members * (3 * sum(sizes) - sizes[0])
    side, count, times = 1024, 2 if options.quick else 20, 2
    a, b = torch.randn(side, side), torch.randn(side, side)

    def products() -> None:
        for _ in range(times):
            torch.mm(a, b)

    pairs = interleave(lambda: steps(count), products, options)
    shares = [(count * needed / step) / (times * 2 * side**3 / product) for step, product in pairs]
    peak = times * 2 * side**3 / statistics.median(product for _, product in pairs) / 1e9
    return Check(
        f"{what}: share of the matrix product's {peak:.0f} GFLOP/s",
        Spread.of(shares),
        target=target,
        sense="at least",
        detail={"step": Spread.of([step / count for step, _ in pairs])},
    )


def sweep_against_plain(
    task: Task, num_steps: int, values: int, seeds: int, options: Options, target: float | None
) -> Check:
    """A whole sweep with all that comes before its first step, compiling included where it is done."""
    task = dataclasses.replace(task, num_steps=num_steps)
    trials = trials_of(values, seeds)

    def stacked() -> None:
        torch.compiler.reset()
        run(Assignment(task=task, trials=trials, on_run=_must_finish))

    return _whole(
        f"whole sweep of {values} x {seeds}, {num_steps} steps: times as fast", task, trials, stacked, options, target
    )


def auto_against_plain(name: str, num_steps: int, values: int, seeds: int, options: Options) -> Check:
    """A task that ships, by the engine that auto takes, with the time that choosing takes."""
    task, trials = dataclasses.replace(task_named(name), num_steps=num_steps), trials_of(values, seeds)
    taken = []

    def by_auto() -> None:
        asked = Assignment(task=task, trials=trials, on_run=_must_finish)
        Engine("auto").run(asked, lambda engine, why: taken.append(engine.name))

    target = None if options.quick else 1.0
    check = _whole(f"{name}, {values} x {seeds}, {num_steps} steps", task, trials, by_auto, options, target)
    return dataclasses.replace(
        check, what=f"{check.what}, auto took {' and '.join(dict.fromkeys(taken))}: times as fast"
    )


def _whole(
    what: str, task: Task, trials: list[Trial], ours: Callable[[], object], options: Options, target: float | None
) -> Check:
    def plain() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(task.num_threads or before)
        for trial in trials:
            Plain(task, trial).train()
        torch.set_num_threads(before)

    pairs = ratio(what, ("plain", plain), ("ours", ours), options, target=target, sense="at least", warmup=0)
    return pairs


def _must_finish(trial: Trial, outcome: object) -> None:
    if hasattr(outcome, "message"):
        raise RuntimeError(f"{trial.key}: {outcome.message}")


if __name__ == "__main__":
    main("stacked", measure, repeats=11)
