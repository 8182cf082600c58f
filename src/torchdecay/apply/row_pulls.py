"""Pulls row by row, for tables of which a step touches few rows: the touched ones only, or each when it is touched."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchdecay.apply import kernels
from torchdecay.apply.rounding import is_low, pay_
from torchdecay.apply.work import Amount, Pull, Target, Work, lasting
from torchdecay.optimizers.gradients import grad_of
from torchdecay.plans.controllers import LazyRows


class RowPulls:
    """Carries out works whose gate goes by rows, and keeps what rows owe.

    Of a lazy table it keeps Σ ln(1 − c_t·λ_t) over the steps so far, and for each row what that sum was when the row
    last paid: the difference is the row's owed log-shrink.
    """

    def __init__(self, optimizer: Optimizer, pulls: Sequence[Pull]) -> None:
        self.optimizer = optimizer
        self.totals: dict[str, float] = {}
        self.paid: dict[str, Tensor] = {}
        # Counts payments, so that each of a low-precision table rounds with numbers of its own.
        self.payments: dict[str, int] = {}
        self._targets = {
            one.name: one for pull in pulls if isinstance(pull.decay.gate, LazyRows) for one in pull.targets
        }

    def pull(self, work: Work, rows: Sequence[Tensor | None] | None = None) -> list[Tensor | None]:
        """What a step does to the rows that it touches, before the optimizer's update.

        Args:
            work: what is to be done.
            rows: those of each target, None for all of them; to undo a pull, what it returned. Else the gradients say.
        """
        regularizer = work.pull.decay.regularizer
        lazy = isinstance(work.pull.decay.gate, LazyRows)
        if rows is None:
            states = [self.optimizer.state.get(one.param, {}) for one in work.targets]
            rows = [
                _rows_to_come(one.param, state) if lazy else _touched(one.param)
                for one, state in zip(work.targets, states, strict=True)
            ]
        for one, amount, here in zip(work.targets, work.amounts, rows, strict=True):
            if lazy:
                self._owe(one.name, one.param, float(amount))
                self._pay(one, here)
                continue

            def explicit(p: Tensor, reference: Tensor | None, amount: Amount = amount) -> None:
                kernels.explicit_([p], regularizer, [amount], [reference])

            self._apply(one, here, explicit, step=work.steps)
        return list(rows)

    def lazy_params(self) -> list[Tensor]:
        """The tables whose rows pay late."""
        return [one.param for one in self._targets.values()]

    @torch.no_grad()
    def catch_up(self, param: Tensor, rows: Tensor | None) -> None:
        """Let rows that are about to be read pay what they owe, all where None."""
        for name in self._owing():
            if self._targets[name].param is param:
                rows = None if rows is None else torch.unique(rows.detach().reshape(-1)).to(self.paid[name].device)
                # To write where nothing is owed would spoil the backward pass of what has read the weights before.
                if (self.paid[name] if rows is None else self.paid[name][rows]).ne(self.totals[name]).any():
                    self._pay(self._targets[name], rows)

    @torch.no_grad()
    def flush(self) -> None:
        """Let every row pay what it owes; the weights are then those of decay at every step."""
        for name in self._owing():
            self._pay(self._targets[name], None)
            self._forget(name)

    def forget(self) -> None:
        """Forgive what is owed."""
        for name in self._owing():
            self._forget(name)

    def owes(self) -> bool:
        """Whether any row may owe something."""
        return bool(self._owing())

    def scalars(self) -> dict[str, Any]:
        """What has to survive a checkpoint: a number for each table, and one for each of its rows."""
        return {
            name: {"total": self.totals[name], "payments": self.payments[name], "paid": self.paid[name].clone()}
            for name in self._owing()
        }

    def load(self, scalars: Mapping[str, Any]) -> None:
        """Take over what `scalars` gave."""
        self.totals = {name: saved["total"] for name, saved in scalars.items()}
        self.payments = {name: saved["payments"] for name, saved in scalars.items()}
        with lasting():
            self.paid = {name: saved["paid"].clone() for name, saved in scalars.items()}

    def inherit(self, other: RowPulls) -> None:
        """Take over the tables that go on paying late; the others pay now."""
        kept = {name: saved for name, saved in other.scalars().items() if name in self._targets}
        for name in kept:
            other._forget(name)
        other.flush()
        self.load(kept)

    def _owing(self) -> list[str]:
        # A table of another length by now owes anew.
        lengths = {name: len(self._targets[name].param) for name in self.totals if name in self._targets}
        return [name for name, length in lengths.items() if length == len(self.paid[name])]

    def _forget(self, name: str) -> None:
        for kept in (self.totals, self.payments, self.paid):
            kept.pop(name, None)

    def _owe(self, name: str, param: Tensor, fraction: float) -> None:
        """Add this step's shrink to what every row owes."""
        if name not in self.totals or len(self.paid[name]) != len(param):
            self.totals[name], self.payments[name] = 0.0, 0
            with lasting():
                self.paid[name] = torch.zeros(len(param), dtype=torch.float64, device=param.device)
        self.totals[name] += math.log1p(-fraction) if fraction < 1 else -math.inf

    def _pay(self, one: Target, rows: Tensor | None) -> None:
        name, param = one.name, one.param
        with lasting():
            total, paid = self.totals[name], self.paid[name].to(param.device)
        # Nothing is left of any row where a step takes everything, whatever else it owes.
        rows = rows if total > -math.inf else None
        owed = total - (paid if rows is None else paid[rows])
        factor = owed.exp().view(-1, *[1] * (param.dim() - 1))

        def shrink(p: Tensor, reference: Tensor | None) -> None:
            if reference is None:
                p.mul_(factor.to(p.dtype))
            else:
                p.sub_(reference).mul_(factor.to(p.dtype)).add_(reference)

        self._apply(one, rows, shrink, step=self.payments[name])
        self.payments[name] += 1
        if total == -math.inf:
            self._forget(name)
        else:
            self.paid[name] = paid.fill_(total) if rows is None else paid.index_fill_(0, rows, total)

    def _apply(
        self,
        one: Target,
        rows: Tensor | None,
        kernel: Callable[[Tensor, Tensor | None], None],
        *,
        step: int = 0,
    ) -> None:
        """Run an in-place kernel on some rows, all where None, with their part of reference and mask."""
        whole, reference, mask = one.param.detach(), one.reference, one.mask
        rows = torch.arange(len(whole), device=whole.device) if rows is None else rows
        part = whole[rows]
        ref = None if reference is None else reference[rows]

        def on_part(p: Tensor) -> None:
            with kernels.masked([p], [None if mask is None else mask.expand_as(whole)[rows]]):
                kernel(p, ref if ref is None else ref.to(p.dtype))

        if is_low(part):
            pay_(part, one.name, step, on_part)
        else:
            on_part(part)
        whole.index_copy_(0, rows, part)


def _touched(param: Tensor) -> Tensor:
    """Rows that the gradient has: its indices, or where a dense one is not 0."""
    grad = grad_of(param)
    if grad.is_sparse:
        return _unique([grad])
    return grad.reshape(len(grad), -1).any(dim=1).nonzero()[:, 0]


def _rows_to_come(param: Tensor, state: Mapping[str, Any]) -> Tensor | None:
    """Rows that the optimizer's update may move: those of the gradient and of sparse state; None is all."""
    grad = grad_of(param)
    if not grad.is_sparse:
        return None
    return _unique([grad, *(one for one in state.values() if isinstance(one, Tensor) and one.is_sparse)])


def _unique(sparse: Sequence[Tensor]) -> Tensor:
    rows: Tensor = torch.unique(torch.cat([one._indices()[0] for one in sparse]))
    return rows
