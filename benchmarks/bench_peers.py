"""A whole step of ours, fused AdamW with a plan attached, over one of another library's optimizer with the form.

A library that is not installed is named and left out; most come with `pip install torchdecay[peers]`.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

import torchdecay as td
from memory import peak_bytes
from paired import Check, Options, Spread, main, ratio
from shapes import gpt2, num_elements, parameters

LR, WD = 1e-3, 1e-3


@dataclass(frozen=True)
class Peer:
    """Another library's optimizer that has a form of decay of its own.

    Attributes:
        form: what the form is called here.
        module: where the optimizer comes from.
        name: what it is called there.
        options: how it is told to decay so.
        ours: the same form as a Decay.
        group: what its parameter group must say beside.
    """

    form: str
    module: str
    name: str
    options: dict[str, Any]
    ours: Callable[[], td.Decay]
    group: dict[str, Any] = field(default_factory=dict)

    def make(self, params: list[Tensor]) -> Optimizer:
        library = importlib.import_module(self.module)
        optimizer: Optimizer = getattr(library, self.name)([{"params": params} | self.group], lr=LR, **self.options)
        return optimizer


DECAY = {"weight_decay": WD}
FOREACH = {"foreach": True}

PEERS = [
    Peer("decoupled", "optimi", "AdamW", DECAY | FOREACH, lambda: td.decoupled(WD)),
    Peer("decoupled", "heavyball", "AdamW", DECAY, lambda: td.decoupled(WD)),
    Peer("decoupled", "timm.optim", "AdamWLegacy", DECAY, lambda: td.decoupled(WD)),
    Peer(
        "independent",
        "optimi",
        "AdamW",
        {"weight_decay": WD * LR, "decouple_lr": True} | FOREACH,
        lambda: td.independent(WD * LR, max_lr=LR),
    ),
    Peer(
        "per_step",
        "pytorch_optimizer",
        "AdaBelief",
        {"weight_decay": WD * LR, "fixed_decay": True, "rectify": False} | FOREACH,
        lambda: td.per_step(WD * LR),
    ),
    Peer("corrected", "pytorch_optimizer", "AdamC", DECAY | FOREACH, lambda: td.corrected(WD, max_lr=LR)),
    Peer(
        "corrected",
        "timm.optim.adamw",
        "AdamWLegacy",
        DECAY | {"corrected_weight_decay": True},
        lambda: td.corrected(WD, max_lr=LR),
    ),
    Peer("cautious", "heavyball", "AdamW", DECAY | {"cautious_weight_decay": True}, lambda: td.cautious(WD)),
    Peer("stable", "pytorch_optimizer", "AdamS", DECAY | FOREACH, lambda: td.forms.stable(WD)),
    Peer(
        "constrained",
        "pytorch_cpr",
        "AdamCPR",
        {"kappa_init_method": "dependent", "kappa_init_param": 1.0} | FOREACH,
        lambda: td.forms.constrained(kappa_initial=1.0),
        {"regularize": True},
    ),
]


def against(peer: Peer, shapes: dict[str, tuple[int, ...]], options: Options, *, compiled: bool) -> Iterator[Check]:
    """Our step over theirs, in time, and what each step allocates for a moment."""
    mine, theirs = parameters(shapes), parameters(shapes)
    grads = {p: torch.full_like(p, 1e-6) for p in (*mine.values(), *theirs.values())}

    def give_gradients() -> None:
        # Some optimizers take them away once they have stepped.
        for p, grad in grads.items():
            p.grad = grad

    give_gradients()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = peer.make(list(theirs.values()))
        own = AdamW(list(mine.items()), lr=LR, weight_decay=0.0, fused=True)
        with td.attach(own, td.plan(mine, peer.ours(), rules=td.policies.torch), compile=compiled) as handle:
            for _ in range(3):
                give_gradients()
                own.step()
                other.step()
            routes = sorted({row.route for row in handle.lowering.rows})
            how = f"{' and '.join(routes)}{', compiled' if compiled else ''}"
            row = f"{peer.form} ({how}) beside {peer.module.split('.')[0]}'s {peer.name}"
            size = 4 * num_elements(shapes)
            yield ratio(
                row,
                ("ours", own.step),
                ("theirs", other.step),
                options,
                reset=give_gradients,
                target=1.0,
                cell=(row, "our step over theirs"),
            )
            for label, step in (("ours", own.step), ("theirs", other.step)):
                give_gradients()
                share = peak_bytes(step) / size
                yield Check(
                    f"{peer.form}, {label}: peak memory over that of the weights",
                    Spread(*[share] * 3),
                    cell=(row, f"memory over the weights', {label}"),
                )


def measure(options: Options) -> Iterator[Check]:
    shapes = gpt2(width=192, depth=4) if options.quick else gpt2(width=384, depth=8, vocabulary=32_000)
    print(f"  on {num_elements(shapes) / 1e6:.0f} M weights in {len(shapes)} tensors")
    for peer in PEERS:
        try:
            importlib.import_module(peer.module)
        except (ImportError, RuntimeError) as error:
            print(f"  {peer.form}: {peer.module} can't be imported, left out: {error}")
            continue
        yield from against(peer, shapes, options, compiled=peer.form == "cautious")


if __name__ == "__main__":
    main("peers", measure, repeats=15)
