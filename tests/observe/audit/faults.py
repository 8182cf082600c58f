"""One seeded fault for every code of the catalog, and beside it the same without the fault."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn, optim
from torch.nn import functional as F

import torchdecay as td
from this_torch import Muon


@dataclass(frozen=True)
class Case:
    """A fault: what raises the code (arguments of `audit`), what does not, the names and severity of the finding."""

    fault: Callable[[], dict[str, Any]]
    clean: Callable[[], dict[str, Any]]
    names: tuple[str, ...]
    severity: str


class Tagger(nn.Module):
    """An embedding, a norm, and a head that may be tied to the embedding."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 10, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.embed(tokens)))


def mlp(dtype: torch.dtype = torch.float32) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)).to(dtype)


def groups(model: nn.Module, wd: float = 0.1, **options: Any) -> list[dict[str, Any]]:
    return td.param_groups(model, wd, **options)


def adamw(model: nn.Module, wd: float = 0.1, lr: float = 1e-3, **options: Any) -> dict[str, Any]:
    return {"optimizer": optim.AdamW(groups(model, wd), lr=lr, **options), "model": model}


def with_group(**changes: Any) -> dict[str, Any]:
    """AdamW on an MLP, with keys written into its first group."""
    made = adamw(mlp())
    made["optimizer"].param_groups[0].update(changes)
    return made


def whole(model: nn.Module, wd: float = 0.1) -> dict[str, Any]:
    return {"optimizer": optim.AdamW(model.parameters(), lr=1e-3, weight_decay=wd), "model": model}


def without(name: str) -> dict[str, Any]:
    """AdamW on all of an MLP but one parameter."""
    model = mlp()
    held = [p for n, p in model.named_parameters() if n != name]
    return {"optimizer": optim.AdamW(held, lr=1e-3, weight_decay=0.0), "model": model}


def some_spared() -> dict[str, Any]:
    model = mlp()
    made = td.param_groups(model, 0.1, skip="2.weight")
    return {"optimizer": optim.AdamW(made), "model": model}


def of_another_model() -> dict[str, Any]:
    model = mlp()
    optimizer = optim.AdamW(groups(model))
    model[2] = nn.Linear(4, 2)
    return {"optimizer": optimizer, "model": model}


def twice() -> dict[str, Any]:
    model = mlp()
    shared = [model[0].weight]
    return {"optimizer": [optim.AdamW(groups(model)), optim.SGD(shared, lr=0.1)], "model": model}


def muon_and_adamw() -> dict[str, Any]:
    model = mlp()
    matrices = [p for p in model.parameters() if p.dim() == 2]
    rest = [p for p in model.parameters() if p.dim() != 2]
    return {"optimizer": [Muon(matrices), optim.AdamW(rest, weight_decay=0.0)], "model": model}


def norm_held(lambd: float) -> dict[str, Any]:
    """ASGD has a decay that is not called weight_decay."""
    model = mlp()
    optimizer = optim.ASGD(model.parameters(), lambd=lambd)
    td.attach(optimizer, td.plan(model, td.forms.projection()), model=model)
    return {"optimizer": optimizer, "model": model}


def tied(wd: float) -> dict[str, Any]:
    model = Tagger(tied=True)
    made = [{"params": [model.embed.weight], "weight_decay": wd}, {"params": list(model.norm.parameters())}]
    return {"optimizer": optim.AdamW(made, weight_decay=0.0), "model": model}


def frozen_with_gradient(*, cleared: bool) -> dict[str, Any]:
    made = adamw(mlp())
    made["model"](torch.ones(1, 4)).sum().backward()
    made["model"][0].weight.requires_grad_(False)
    if cleared:
        made["model"][0].weight.grad = None
    return made


def odd_shape(*, known: bool) -> dict[str, Any]:
    model = mlp()
    if not known:
        model.mystery = nn.Parameter(torch.randn(2, 3, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return adamw(model)


def tokens_seen(rows: str) -> dict[str, Any]:
    """An embedding under decay after a batch that uses three of its ten rows."""
    model = Tagger()
    plan = td.plan(model, td.decoupled(0.1, rows=rows), rules=[("*", td.DEFAULT)])
    optimizer = optim.AdamW(plan.param_groups(model), lr=1e-3)
    td.attach(optimizer, plan)
    model(torch.tensor([1, 2, 3])).square().sum().backward()
    return {"optimizer": optimizer, "model": model}


def with_empty_group() -> dict[str, Any]:
    made = adamw(mlp())
    made["optimizer"].param_groups.append({**made["optimizer"].param_groups[0], "params": [], "param_names": []})
    return made


def one_group_each() -> dict[str, Any]:
    model = mlp()
    return {
        "optimizer": optim.AdamW([{"params": [p], "weight_decay": 0.0} for p in model.parameters()]),
        "model": model,
    }


def scaled(*, applied: bool) -> dict[str, Any]:
    model = mlp()
    made = [
        {"params": list(model[i].parameters()), "lr_scale": scale, "lr": 1e-3 * (scale if applied else 1.0)}
        for i, scale in ((0, 0.5), (2, 1.0))
    ]
    return {"optimizer": optim.AdamW(made, weight_decay=0.0), "model": model}


def attached(decay: td.Decay, *, cls: Any = optim.AdamW, lr: float = 1e-3, **options: Any) -> dict[str, Any]:
    model = mlp()
    plan = td.plan(model, decay)
    optimizer = cls(plan.param_groups(model), lr=lr, **options)
    td.attach(optimizer, plan)
    return {"optimizer": optimizer, "model": model}


def copied() -> dict[str, Any]:
    made = attached(td.l1(0.1))
    model, optimizer = copy.deepcopy((made["model"], made["optimizer"]))
    return {"optimizer": optimizer, "model": model}


def not_attached() -> dict[str, Any]:
    model = mlp()
    return {"optimizer": optim.AdamW(td.param_groups(model, td.l1(0.1))), "model": model}


def overwritten() -> dict[str, Any]:
    made = attached(td.l1(0.1))
    made["optimizer"].param_groups[0]["weight_decay"] = 0.05
    return made


def unfrozen(*, updated: bool) -> dict[str, Any]:
    """A layer that was frozen when the plan was made, and has joined the optimizer since."""
    model = mlp()
    model[0].requires_grad_(False)
    optimizer = optim.SGD(model[2].parameters(), lr=0.1)
    handle = td.attach(optimizer, td.plan(model, td.decoupled(0.1)), model=model)
    model[0].requires_grad_(True)
    optimizer.add_param_group({"params": list(model[0].parameters())})
    if updated:
        handle.update(td.plan(model, td.decoupled(0.1)))
    return {"optimizer": optimizer, "model": model}


def resumed(*, by_name: bool) -> dict[str, Any]:
    """A checkpoint with weight_decay 0.3 over a plan of 0.1."""
    model = mlp()
    saved = optim.AdamW(groups(model, 0.3)).state_dict()
    plan = td.plan(model, 0.1)
    optimizer = optim.AdamW(plan.param_groups(model))
    if by_name:
        td.load_optimizer(optimizer, saved)
    else:
        optimizer.load_state_dict(saved)
    return {"optimizer": optimizer, "plan": plan}


def loaded(*, given: float) -> dict[str, Any]:
    """A value that the constructor got, and a checkpoint of 0.3 over it; a group of its own says 0."""
    model = mlp()
    mine = [{"params": [p for p in model.parameters() if p.dim() > 1]}, {"params": [model[0].bias], "weight_decay": 0}]
    saved = optim.AdamW(mine, weight_decay=0.3).state_dict()
    mine = [{"params": one["params"]} | {k: v for k, v in one.items() if k != "params" and v == 0} for one in mine]
    optimizer = optim.AdamW(mine, weight_decay=given)
    optimizer.load_state_dict(saved)
    return {"optimizer": optimizer}


def transposed(*, fused: bool = True, layout: str = "transposed") -> dict[str, Any]:
    model = mlp()
    made = {"optimizer": optim.AdamW(groups(model, 0.0), fused=fused), "model": model}
    weight = model[0].weight
    weight.grad = torch.randn(4, 4).t() if layout == "transposed" else torch.randn(4, 4)
    return made


def with_loss(wd: float, penalty: float) -> dict[str, Any]:
    made = adamw(mlp(), wd)
    model = made["model"]
    loss = model(torch.ones(3, 4)).square().mean() + penalty * model[0].weight.square().sum()
    return made | {"loss": loss}


def penalized(*, forgotten: bool) -> dict[str, Any]:
    model = mlp()
    plan = td.plan(model, td.penalized(0.1))
    optimizer = optim.SGD(plan.param_groups(model), lr=0.1)
    handle = td.attach(optimizer, plan)
    loss = model(torch.ones(3, 4)).square().mean()
    return {"optimizer": optimizer, "model": model, "loss": loss if forgotten else loss + handle.penalty(model)}


def training(wd: float, *, lr: float = 1e-2) -> dict[str, Any]:
    return adamw(mlp(), wd, lr) | {"run": td.Run(epochs=10, batch_size=10, num_samples=1000)}


def above_peak(lr: float) -> dict[str, Any]:
    made = attached(td.independent(1e-4, max_lr=1e-2))
    made["optimizer"].param_groups[0]["lr"] = lr
    return made


def orthogonal(wd: float) -> dict[str, Any]:
    return whole(nn.utils.parametrizations.orthogonal(nn.Linear(4, 4, bias=False)), wd)


def no_gradient(cls: Any) -> dict[str, Any]:
    model = mlp()
    optimizer = cls(groups(model), lr=1e-3)
    model[2](model[1](model[0](torch.ones(1, 4)))).square().sum().backward()
    model[0].weight.grad.zero_()
    return {"optimizer": optimizer, "model": model}


def before_a_norm(*, normed: bool) -> dict[str, Any]:
    model = nn.Sequential(
        nn.Linear(8, 8, bias=False), nn.LayerNorm(8, eps=0.0) if normed else nn.Tanh(), nn.Linear(8, 3)
    )
    made = adamw(model)
    F.cross_entropy(model(torch.randn(16, 8)), torch.randint(3, (16,))).backward()
    return made


def sparse(*, is_sparse: bool) -> dict[str, Any]:
    return whole(nn.Embedding(10, 4, sparse=is_sparse))


def none_decays() -> dict[str, Any]:
    return adamw(mlp(), 0.0)


def part_of_the_model_is_used(*, all_of_it: bool) -> dict[str, Any]:
    """A backward pass that a second head has no part in."""
    model = nn.ModuleList([nn.Linear(4, 2, bias=False), nn.Linear(4, 2, bias=False)])
    (model[0](torch.ones(1, 4)) + all_of_it * model[1](torch.ones(1, 4))).sum().backward()
    if not all_of_it:
        model[1].weight.grad = None
    return adamw(model)


CASES: dict[str, Case] = {
    "WD101": Case(
        lambda: whole(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))),
        lambda: adamw(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))),
        ("0.bias", "1.weight", "1.bias"),
        "warning",
    ),
    "WD102": Case(lambda: whole(Tagger()), lambda: adamw(Tagger()), ("embed.weight",), "info"),
    "WD103": Case(some_spared, lambda: adamw(mlp()), ("2.weight",), "info"),
    "WD104": Case(lambda: without("2.weight"), lambda: without(""), ("2.weight",), "error"),
    "WD105": Case(of_another_model, lambda: adamw(mlp()), ("2.weight (2x4)", "2.bias (2)"), "error"),
    "WD106": Case(twice, muon_and_adamw, ("0.weight",), "error"),
    "WD107": Case(lambda: tied(0.1), lambda: tied(0.0), ("embed.weight",), "warning"),
    "WD108": Case(
        lambda: frozen_with_gradient(cleared=False),
        lambda: frozen_with_gradient(cleared=True),
        ("0.weight",),
        "warning",
    ),
    "WD109": Case(lambda: odd_shape(known=False), lambda: odd_shape(known=True), ("mystery",), "info"),
    "WD110": Case(lambda: tokens_seen("all"), lambda: tokens_seen("touched"), ("embed.weight",), "warning"),
    "WD111": Case(none_decays, lambda: adamw(mlp()), (), "info"),
    "WD112": Case(
        lambda: part_of_the_model_is_used(all_of_it=False),
        lambda: part_of_the_model_is_used(all_of_it=True),
        ("1.weight",),
        "info",
    ),
    "WD113": Case(
        lambda: adamw(Tagger()) | {"recipe": "moonlight"},
        lambda: whole(Tagger()) | {"recipe": "moonlight"},
        ("embed.weight", "norm.weight", "norm.bias"),
        "warning",
    ),
    "WD201": Case(lambda: with_group(weigth_decay=0.3), lambda: with_group(my_own_note=3), (), "error"),
    "WD202": Case(with_empty_group, lambda: adamw(mlp()), (), "warning"),
    "WD203": Case(one_group_each, lambda: adamw(mlp()), (), "info"),
    "WD204": Case(lambda: scaled(applied=False), lambda: scaled(applied=True), (), "warning"),
    "WD205": Case(copied, lambda: attached(td.l1(0.1)), ("0.weight", "2.weight", "0.bias", "2.bias"), "error"),
    "WD206": Case(not_attached, lambda: attached(td.l1(0.1)), ("0.weight", "2.weight"), "error"),
    "WD207": Case(overwritten, lambda: attached(td.l1(0.1)), ("0.weight", "2.weight"), "error"),
    "WD208": Case(lambda: resumed(by_name=False), lambda: resumed(by_name=True), ("0.weight", "2.weight"), "error"),
    "WD209": Case(transposed, lambda: transposed(layout="contiguous"), ("0.weight",), "error"),
    "WD210": Case(lambda: with_loss(0.1, 0.01), lambda: with_loss(0.0, 0.01), ("0.weight",), "warning"),
    "WD211": Case(
        lambda: {"optimizer": optim.ASGD(mlp().parameters())},
        lambda: {"optimizer": optim.ASGD(mlp().parameters(), lambd=0.0)},
        (),
        "info",
    ),
    "WD212": Case(
        lambda: penalized(forgotten=True), lambda: penalized(forgotten=False), ("0.weight", "2.weight"), "error"
    ),
    "WD213": Case(lambda: unfrozen(updated=False), lambda: unfrozen(updated=True), (), "error"),
    "WD214": Case(lambda: loaded(given=0.1), lambda: loaded(given=0.3), (), "warning"),
    "WD301": Case(lambda: with_group(weight_decay=-0.1), lambda: with_group(weight_decay=0), (), "error"),
    "WD302": Case(lambda: adamw(mlp(), 50.0), lambda: adamw(mlp(), 0.5), ("0.weight", "2.weight"), "warning"),
    "WD303": Case(lambda: adamw(mlp(), 2000.0), lambda: adamw(mlp(), 0.5), ("0.weight", "2.weight"), "error"),
    "WD304": Case(lambda: adamw(mlp(torch.bfloat16)), lambda: adamw(mlp()), ("0.weight", "2.weight"), "error"),
    "WD305": Case(lambda: training(2.0), lambda: training(0.5), ("0.weight", "2.weight"), "warning"),
    "WD306": Case(lambda: training(0.01), lambda: training(0.5), ("0.weight", "2.weight"), "warning"),
    "WD307": Case(lambda: above_peak(2e-2), lambda: above_peak(1e-2), ("0.weight", "2.weight"), "warning"),
    "WD401": Case(
        lambda: {"optimizer": optim.Adam(mlp().parameters(), weight_decay=0.1)},
        lambda: {"optimizer": optim.SGD(mlp().parameters(), weight_decay=0.01)},
        ("parameter 0", "parameter 1", "parameter 2", "parameter 3"),
        "warning",
    ),
    "WD402": Case(lambda: orthogonal(0.1), lambda: orthogonal(0.0), ("parametrizations.weight.original",), "warning"),
    "WD403": Case(lambda: no_gradient(optim.Adam), lambda: no_gradient(optim.AdamW), ("0.weight",), "warning"),
    "WD404": Case(lambda: before_a_norm(normed=True), lambda: before_a_norm(normed=False), ("0.weight",), "info"),
    "WD405": Case(lambda: sparse(is_sparse=True), lambda: sparse(is_sparse=False), ("weight",), "error"),
    "WD406": Case(lambda: norm_held(1e-3), lambda: norm_held(0.0), ("0.weight", "2.weight"), "warning"),
}
