"""What a plan costs on 45,010 tensors (an unfused DeepSeek-V3) and 100,000, and what a step asks of other processes.

The tensors are small: it is Python that is measured, not arithmetic. Collectives are counted in a group of eight that
has only this process (`torch.testing._internal.distributed.fake_pg`), in which every one is answered at once.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import nn, optim
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.debug import CommDebugMode

import torchdecay as td
from paired import Check, Options, Spread, main, timed, undisturbed
from torchdecay.plans.groups import MARK

T = TypeVar("T")
DEEPSEEK, MANY, IN_A_STEP = 45_010, 100_000, 2_000
LIMITS = {
    "td.lower": 3.0,
    "td.attach": 3.0,
    "handle.update": 3.0,
    "optimizer.state_dict()": 0.5,
    "plan.to_json()": 2.0,
    "Plan.from_json": 2.0,
    "plan.diff": 1.0,
}
FORMS = {
    "decoupled": td.decoupled(0.1),
    "cautious": td.cautious(0.1),
    "l1": td.l1(0.01),
    "toward initial": td.toward("initial", 0.1),
    "projected": td.forms.projected("initial", 0.1),
    "stable": td.forms.stable(0.1),
    "adaptive": td.forms.adaptive(0.1),
    "ada_decay": td.forms.ada_decay(0.1),
    "constrained": td.forms.constrained(kappa_initial=0.5),
    "norm_control": td.forms.norm_control(0.1),
    "hyperball": td.forms.hyperball(),
    "spectral": td.forms.spectral(0.1),
}


class Layers(nn.Module):
    """As many tensors as asked for, of eight elements each, half of them matrices."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 4) for _ in range(count // 2))


def of_plans(count: int, options: Options) -> Iterator[Check]:
    """Seconds that each call takes."""
    model = Layers(count)
    plan, other = td.plan(model, td.decoupled(0.1)), td.plan(model, td.decoupled(0.2))
    written = plan.to_json()
    times: dict[str, list[float]] = {what: [] for what in LIMITS}

    def measured(what: str, call: Callable[..., T], *args: Any, **words: Any) -> T:
        gc.collect()
        made: list[T] = []
        times[what].append(undisturbed(lambda: timed(lambda: made.append(call(*args, **words))), options))
        return made[-1]

    state: dict[str, Any] = {}
    for _ in range(options.repeats):
        optimizer = optim.AdamW(td.param_groups(model, 0.0), lr=1e-3)
        measured("td.lower", td.lower, plan, optimizer, model=model)
        # By hook, where more is kept than of what is native.
        with measured("td.attach", td.attach, optimizer, plan, model=model, via="hook") as handle:
            measured("handle.update", handle.update, other)
            state = measured("optimizer.state_dict()", optimizer.state_dict)
        measured("plan.to_json()", plan.to_json)
        measured("Plan.from_json", td.Plan.from_json, written)
        measured("plan.diff", plan.diff, other)
    for what, seconds in times.items():
        yield Check(f"{what} of {count:,} tensors", Spread.of(seconds), unit="s", target=LIMITS[what])
    marks = sum(len(group[MARK]) for group in state["param_groups"])
    size = (marks + len(json.dumps(state[MARK], default=str))) / 1e6
    yield Check(f"what the plan adds to optimizer.state_dict() of {count:,} tensors", Spread.of([size]), "MB", target=1)


def of_a_record(count: int, options: Options) -> Check:
    """Seconds that a step with a record takes longer than one without."""
    model = Layers(count)
    optimizer = optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    for param in model.parameters():
        param.grad = torch.full_like(param, 1e-3)
    longer = []
    with td.Monitor(optimizer, every_steps=2, model=model):
        for _ in range(4):
            optimizer.step()
        for _ in range(options.repeats):
            # Recorded are steps 1, 2, 4, 6 and so on.
            without, recorded = (undisturbed(lambda: timed(optimizer.step), options) for _ in range(2))
            longer.append(recorded - without)
    return Check(f"td.Monitor: a record of {count:,} tensors", Spread.of(longer), unit="ms", target=0.06)


def collectives(form: str, layers: int) -> int:
    """How often a step asks the other processes, beside what the optimizer does."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(layers)))
    fully_shard(model, mesh=init_device_mesh("cpu", (8,)))
    optimizer = optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    of_matrices = form in ("hyperball", "spectral")
    plan = td.plan(model, FORMS[form], rules=td.STANDARD if of_matrices else ())
    td.attach(optimizer, plan, model=model, via="hook", check_ranks=False)
    for param in model.parameters():
        param.grad = torch.full_like(param, 0.1)
    optimizer.step()
    with CommDebugMode() as counted:
        optimizer.step()
    return int(counted.get_total_counts())


def of_steps() -> Iterator[Check]:
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=8)
    try:
        for form in FORMS:
            few, many = (collectives(form, layers) for layers in (2, 20))
            target = None if form == "spectral" else 2.0
            yield Check(
                f"collectives in a step of {form}, 40 tensors (of 4: {few})", Spread.of([many]), "calls", target
            )
    finally:
        torch.distributed.destroy_process_group()


def measure(options: Options) -> Iterator[Check]:
    for count in (1_000,) if options.quick else (DEEPSEEK, MANY):
        yield from of_plans(count, options)
    yield of_a_record(200 if options.quick else IN_A_STEP, options)
    yield from of_steps()


if __name__ == "__main__":
    main("scale", measure, repeats=3)
