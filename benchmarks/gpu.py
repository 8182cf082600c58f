"""All that is tested and measured on a GPU, in at most eight minutes: `make gpu`.

First tests/gpu, then figures, which go into results/gpu.json with date, device and versions. Needs torch, pytest and
this package, installed or beside it (PYTHONPATH=src); heavyball and optimi are compared with where they are installed.
TORCHDECAY_GPU_DEVICE=cpu goes through all of it on a CPU, with small tensors, and writes nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F

LIMIT = 480.0
"""Seconds for all."""
ROOT = Path(__file__).parents[1]
GIVEN = os.environ.get("TORCHDECAY_GPU_DEVICE", "")
DEVICE = GIVEN or "cuda"
BEGAN = time.monotonic()


def time_is_left(seconds: float) -> bool:
    return time.monotonic() - BEGAN + seconds < LIMIT


def tested() -> int:
    """The exit code of the tests."""
    if importlib.util.find_spec("pytest") is None:
        print("tests/gpu was not run: there is no pytest here")
        return 1
    paths = [str(ROOT / "src"), str(ROOT / "tests"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = os.environ | {"TORCHDECAY_GPU_DEVICE": DEVICE, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    # Without the suite's own settings, whose needs a machine with a GPU may lack.
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(ROOT / "tests" / "gpu"),
        "-q",
        "--noconftest",
        "-o",
        "addopts=",
        "-rfEs",
    ]
    try:
        return subprocess.run(command, env=environment, timeout=LIMIT / 2).returncode
    except subprocess.TimeoutExpired:
        print(f"tests/gpu took more than {LIMIT / 2:.0f} seconds")
        return 1


def clocked(work: Callable[[], object]) -> float:
    """Seconds of a call, the device's work included."""
    torch.cuda.synchronize() if DEVICE != "cpu" else None
    start = time.perf_counter()
    work()
    torch.cuda.synchronize() if DEVICE != "cpu" else None
    return time.perf_counter() - start


def many(work: Callable[[], object], count: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(count):
            work()

    return run


def measured(options: Any) -> Iterator[Any]:
    """Every figure for which there is time."""
    for part in (forms, whole_steps, monitors, stacks):
        for made in part(options):
            yield made
            if not time_is_left(20.0):
                print(f"  stopped: {LIMIT:.0f} seconds are nearly over")
                return


def weights_of(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    from shapes import parameters

    made = {name: one.detach().to(DEVICE).requires_grad_() for name, one in parameters(shapes).items()}
    for one in made.values():
        one.grad = torch.full_like(one, 1e-6)
    return made


def sizes(quick: bool) -> dict[str, tuple[int, ...]]:
    from shapes import gpt2

    return gpt2(width=64, depth=2, vocabulary=256, positions=64) if quick else gpt2()


def forms(options: Any) -> Iterator[Any]:
    """What a hook moves, over its time, beside what a copy moves over its; and its time over one `_foreach_mul_`."""
    import torchdecay as td
    from paired import Check, Spread, interleave

    params = weights_of(sizes(options.quick))
    plain = [one.detach() for one in params.values()]
    count = 2 if options.quick else 20
    source = torch.zeros(1 << (18 if options.quick else 28), device=DEVICE)
    target = torch.empty_like(source)
    rows: list[tuple[str, Callable[[], td.Decay], bool, float | None]] = [
        ("decoupled", lambda: td.decoupled(1e-3), False, 0.9),
        ("cautious", lambda: td.cautious(1e-3), True, 0.8),
        ("l1", lambda: td.l1(1e-3), True, 0.8),
        ("huber", lambda: td.forms.huber(1e-3), True, 0.8),
        ("toward", lambda: td.toward("initial", 1e-3), True, None),
        ("cautious", lambda: td.cautious(1e-3), False, None),
        ("l1", lambda: td.l1(1e-3), False, None),
        ("norm_control", lambda: td.forms.norm_control(1e-3), False, None),
        ("constrained", lambda: td.forms.constrained(kappa=1.0), False, None),
        ("hyperball", td.forms.hyperball, False, None),
    ]
    for form, decay, compiled, goal in rows:
        optimizer = optim.SGD(list(params.items()), lr=1e-3, weight_decay=0.0, foreach=True)
        made = decay()
        plan = td.plan(params, made, rules=td.STANDARD if made.update is not None else td.policies.torch)
        with td.attach(optimizer, plan, via="hook", compile=compiled) as handle:
            optimizer.step()
            before = list(optimizer._optimizer_step_pre_hooks.values())
            after = list(optimizer._optimizer_step_post_hooks.values())

            def step(before: list[Any] = before, after: list[Any] = after, optimizer: Any = optimizer) -> None:
                for hook in before:
                    hook(optimizer, (), {})
                for hook in after:
                    hook(optimizer, (), {})

            moved = sum(handle.cost(name).moved for name in params)
            if form == "cautious":
                # It reads the gradient beside, by whose sign SGD moves.
                moved += sum(one.nbytes for one in params.values())
            pairs = interleave(
                many(step, count), many(lambda: target.copy_(source), count), options, warmup=3, clock=clocked
            )
            others = interleave(
                many(step, count),
                many(lambda: torch._foreach_mul_(plain, 1.0), count),
                options, clock=clocked,
            )  # fmt: skip
        shares = [(moved / own) / (2 * source.nbytes / copy) for own, copy in pairs]
        name = f"{form}{', compiled' if compiled else ''}"
        detail = {"hook": Spread.of([own / count for own, _ in pairs])}
        goal = None if options.quick else goal
        what = f"{name}: bytes moved over time, share of a copy's"
        yield Check(what, Spread.of(shares), target=goal, sense="at least", detail=detail)
        yield Check(f"{name}: hook over one _foreach_mul_", Spread.of([own / mul for own, mul in others]))


def whole_steps(options: Any) -> Iterator[Any]:
    """A step of fused AdamW with a plan, over a step of others."""
    import torchdecay as td
    from paired import Check, Spread, interleave

    count = 2 if options.quick else 10
    rivals: dict[str, Callable[[list[Tensor]], Any]] = {
        "torch's fused AdamW, weight_decay alone": lambda own: optim.AdamW(own, lr=1e-3, weight_decay=1e-3, fused=True),
        "torch's foreach AdamW": lambda own: optim.AdamW(own, lr=1e-3, weight_decay=1e-3, foreach=True),
    }
    for module, options_of in (("optimi", {"foreach": True}), ("heavyball", {})):
        if importlib.util.find_spec(module) is not None:
            made = importlib.import_module(module).AdamW
            rivals[f"{module}'s AdamW"] = lambda own, made=made, more=options_of: made(
                own, lr=1e-3, weight_decay=1e-3, **more
            )
        else:
            print(f"  {module} is not installed: not compared with")
    for form, decay in (("decoupled", td.decoupled(1e-3)), ("cautious, compiled", td.cautious(1e-3))):
        for rival, make in rivals.items():
            mine, theirs = weights_of(sizes(options.quick)), weights_of(sizes(options.quick))
            own = optim.AdamW(list(mine.items()), lr=1e-3, weight_decay=0.0, fused=True)
            other = make(list(theirs.values()))
            td.attach(own, td.plan(mine, decay, rules=td.policies.torch), compile="compiled" in form)
            grads = {one: one.grad for one in (*mine.values(), *theirs.values())}

            def stepped(optimizer: Any, grads: dict[Tensor, Any] = grads) -> None:
                # Some take gradients away once they have stepped.
                for one, grad in grads.items():
                    one.grad = grad
                optimizer.step()

            pairs = interleave(
                many(lambda own=own: stepped(own), count), many(lambda other=other: stepped(other), count),
                options, warmup=3, clock=clocked,
            )  # fmt: skip
            detail = {"ours": Spread.of([a / count for a, _ in pairs]), rival: Spread.of([b / count for _, b in pairs])}
            yield Check(f"fused AdamW with {form} over {rival}", Spread.of([a / b for a, b in pairs]), detail=detail)


def monitors(options: Any) -> Iterator[Any]:
    """Steps with a monitor that records each hundredth, over steps without."""
    import torchdecay as td
    from paired import Check, Spread, interleave

    params, bare = weights_of(sizes(options.quick)), weights_of(sizes(options.quick))
    watched = optim.AdamW(list(params.items()), lr=1e-3, weight_decay=1e-3, fused=True)
    alone = optim.AdamW(list(bare.items()), lr=1e-3, weight_decay=1e-3, fused=True)
    count = 4 if options.quick else 100
    with td.Monitor(watched, every_steps=count):
        pairs = interleave(many(watched.step, count), many(alone.step, count), options, warmup=1, clock=clocked)
    detail = {"with": Spread.of([a / count for a, _ in pairs]), "without": Spread.of([b / count for _, b in pairs])}
    yield Check(f"a step under td.Monitor, a record in {count}", Spread.of([a / b for a, b in pairs]), detail=detail)


def stacks(options: Any) -> Iterator[Any]:
    """Members trained as one stacked model: steps of members in a second, and the share of the device's products."""
    from paired import Check, Spread
    from torchdecay.lab.engines.stacked.fit import fitted
    from torchdecay.lab.engines.stacked.loop import StackedRun
    from torchdecay.lab.tasks.task import Data, Task
    from torchdecay.lab.training.contenders import as_contender
    from torchdecay.lab.training.trial import Assignment, Trial

    widths, batch = ((16, 16, 10), 16) if options.quick else ((256, 512, 512, 10), 256)

    def data(seed: int) -> Data:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(2000, widths[0], generator=generator).to(DEVICE)
        y = torch.randint(widths[-1], (2000,), generator=generator).to(DEVICE)
        return Data(train=(x[:1500], y[:1500]), test=(x[1500:], y[1500:]))

    def model() -> nn.Module:
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
        return nn.Sequential(*[one for layer in layers for one in (layer, nn.ReLU())][:-1]).to(DEVICE)

    task = Task(
        name="network", data=data, model=model, loss=F.cross_entropy,
        optimizer=lambda groups: optim.AdamW(groups, lr=1e-3, fused=True),
        num_steps=10**9, batch_size=batch, eval_every=10**9,
    )  # fmt: skip
    side, count = (128, 2) if options.quick else (8192, 20)
    a, b = (torch.randn(side, side, device=DEVICE) for _ in range(2))
    product = min(clocked(lambda: a @ b) for _ in range(5))
    peak = 2 * side**3 / product
    sizes_of = [a * b for a, b in itertools.pairwise(widths)]
    for members in (4, 8) if options.quick else (64, 256, 1024):
        trials = [
            Trial(contender=as_contender(f"decoupled:{0.01 + 1e-4 * i}"), seed=0, value=0.01 + 1e-4 * i)
            for i in range(members)
        ]
        prepared = fitted(task, trials)
        begun = Assignment(task=task, trials=(), on_run=lambda *_: None)
        stack = StackedRun(begun, prepared, prepared.members, compile=False)
        stack.advance(5)
        seconds = [
            clocked(lambda stack=stack: stack.advance(stack.step + count)) / count for _ in range(options.repeats)
        ]
        rates = [members / one for one in seconds]
        yield Check(f"stacked, {members} members: steps of members in a second", Spread.of(rates), unit="runs")
        needed = 2 * batch * members * (3 * sum(sizes_of) - sizes_of[0])
        what = f"stacked, {members} members: share of the matrix product's {peak / 1e12:.3g} TFLOP/s"
        yield Check(what, Spread.of([needed / one / peak for one in seconds]))


def main() -> None:
    if not GIVEN and not torch.cuda.is_available():
        print("no GPU here; nothing was run")
        return
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]
    import paired

    failed = tested()
    name = torch.cuda.get_device_name() if DEVICE != "cpu" else "a CPU, in place of a GPU"
    where = paired.header() | {"device": name, "cuda": str(torch.version.cuda)}
    print("gpu: " + ", ".join(f"{key} {value}" for key, value in where.items()), flush=True)
    options = paired.Options(repeats=3 if DEVICE == "cpu" else 9, quick=DEVICE == "cpu")
    checks = list(paired.shown(measured(options)))
    if DEVICE != "cpu":
        paired.write("gpu", where, options, checks)
    print(f"{time.monotonic() - BEGAN:.0f} seconds in all")
    sys.exit(bool(failed) or any(check.verdict == "FAIL" for check in checks))


if __name__ == "__main__":
    main()
