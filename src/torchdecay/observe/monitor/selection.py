"""Which weights take part in a step beside the real one, what their copies hold, and what that may cost.

Where a rule treats each element by itself, the sample of a batch is one tensor. Elsewhere tensors are copied whole:
the smallest of each series, more while there is room, and where all are few and the rule is unknown, all: it may add
up over them.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from torchdecay.observe.monitor.budget import Budget
from torchdecay.observe.monitor.layout import Tracked
from torchdecay.observe.monitor.samples import Batch, gradient_of, sampled
from torchdecay.observe.monitor.shadow import MOST_BYTES, Copy, Shadow, UncopiedError, like, weigh
from torchdecay.optimizers.cards import card_of, has_trait
from torchdecay.plans.decay import Site
from torchdecay.sharding import cuts, is_dtensor
from torchdecay.text import describe_error

MOST_WHOLE = 1 << 20
"""Elements of whole tensors that are copied beside the smallest of each series."""
_LEFT_OUT = "it is not in the sample"


@dataclass(eq=False)
class _Piece:
    """What takes part as one tensor: one member of a batch whole, or the samples of some that a rule treats alike."""

    batch: Batch
    is_whole: bool

    @property
    def params(self) -> list[Tensor]:
        """The parameters."""
        return [member.param for member in self.batch.members]

    @property
    def size(self) -> int:
        """Elements."""
        return self.batch.members[0].param.numel() if self.is_whole else sum(self.batch.counts)

    def kept(self, tensors: Sequence[Tensor]) -> Tensor:
        """The same elements of tensors that have the shapes of the parameters, as a new tensor."""
        return tensors[0].detach().clone() if self.is_whole else self.batch.kept(tensors)


class Beside:
    """The step beside the real one, for the weights of a reading whose decay nothing else tells.

    `copied` comes before anything moves, `stepped` when gradients are there, and after these `ends_of` and `why_not`.

    Args:
        optimizer: whose step it is.
        batches: of the layout.
        budget: of the monitor.
    """

    def __init__(self, optimizer: Any, batches: Sequence[Batch], budget: Budget) -> None:
        self._optimizer, self._budget = optimizer, budget
        self._card, self._is_elementwise = card_of(optimizer), has_trait(optimizer, "elementwise")
        self._batches = [batch for batch in batches if batch.members[0].source == "shadow"]
        self._others = [batch for batch in batches if batch.members[0].source != "shadow"]
        # What a pass takes before the update, a step that nobody knows may put back.
        self._checked = [batch for batch in self._others if self._card is None and _is_before(batch.members[0])]
        self._starts: dict[int, Tensor] = {}
        self.waits = False
        self.ends: dict[int, tuple[Tensor, Tensor]] = {}
        self.why: dict[int, str] = {}
        self._pieces: list[_Piece] = []
        self._shadow: Shadow | None = None
        self._refusal = self._agreed(budget.refusal()) if self._batches or self._checked else ""

    @property
    def is_wanted(self) -> bool:
        """Whether copies are to step, and have the time."""
        return bool(self._batches) and not self._refusal

    def begun(self) -> None:
        """Keep what passes of decay that are to be checked will move, before they do."""
        if self._refusal:
            return
        params = [member.param for batch in self._checked for member in batch.members]
        if sum(param.numel() for param in params) <= MOST_WHOLE and not any(map(is_dtensor, params)):
            self._starts = {id(param): param.detach().clone() for param in params}

    def copied(self, *, waits: bool) -> None:
        """Copy what is to take the step, before anything moves; `waits` for gradients that a closure makes."""
        self.waits = waits
        self._try(lambda: self._refuse(self._refusal) if self._refusal else self._copy(waits))

    def stepped(self, users: Mapping[int, Tensor]) -> None:
        """Take both steps; `users` are the gradients as the user gave them, by `id(parameter)`."""
        if self._shadow is not None:
            self._try(lambda: self._step(users))
            self._shadow = None
            self._budget.closed()

    def ends_of(self, batch: Batch, start: Tensor) -> tuple[Tensor, Tensor] | None:
        """Samples of where members end with decay and without, of those that took no part of where they start.

        None where nothing of them did, or where their decay is measured otherwise.
        """
        own = [self.ends.get(id(member.param)) for member in batch.members]
        if batch.members[0].source != "shadow" or not any(own):
            return None
        starts = torch.split(start, batch.counts)
        pairs = [(one, one) if ends is None else ends for one, ends in zip(starts, own, strict=True)]
        with_decay, without = (torch.cat(one) if len(own) > 1 else one[0] for one in zip(*pairs, strict=True))
        return with_decay, without

    def checked_ends_of(self, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """Samples of where members end after the pass and without it; None where one took no part."""
        own = [self.ends.get(id(member.param)) for member in batch.members]
        pairs = [one for one in own if one is not None]
        if len(pairs) < len(own) or batch.members[0].source != "pass":
            return None
        passed, without = (torch.cat(one) for one in zip(*pairs, strict=True))
        return passed, without

    def why_not(self, member: Tracked) -> str:
        """Why a member has not been measured so, "" for one that has, or that is measured otherwise."""
        if member.source != "shadow" or id(member.param) in self.ends:
            return ""
        return self.why.get(id(member.param), _LEFT_OUT)

    def _try(self, what: Callable[[], object]) -> None:
        begin = time.perf_counter()
        try:
            what()
        except Exception as error:
            self._refuse(str(error) if isinstance(error, UncopiedError) else describe_error(error))
        self._budget.note(time.perf_counter() - begin)

    def _agreed(self, refusal: str) -> str:
        """No process goes on without the others, who wait for the sums of weights that lie on several."""
        params = [member.param for batch in self._batches for member in batch.members]
        groups = {group: param.device for param in params for group in cuts(param)}
        for group, device in groups.items():
            refused = torch.tensor(float(bool(refusal)), device=device)
            torch.distributed.all_reduce(refused, torch.distributed.ReduceOp.MAX, group)
            refusal = refusal or ("another process has no time for steps on copies" if refused else "")
        return refusal

    def refuse(self, batch: Batch, why: str) -> None:
        """Take no step for a batch, and say why; "" is no reason."""
        self.why |= {id(member.param): why for member in batch.members if why}

    def _refuse(self, why: str) -> None:
        self.why |= {id(member.param): why for batch in self._batches for member in batch.members}

    def _copy(self, waits: bool) -> None:
        self._pieces = self._chosen(waits)
        copies = [self._copy_of(piece) for piece in self._pieces]
        if copies:
            self._shadow = Shadow(self._optimizer, copies)

    def _chosen(self, waits: bool) -> list[_Piece]:
        """The pieces that are copied: the lightest of each series, then others as long as there is room."""
        wanted = [*self._batches, *(self._checked if self._starts or waits else ())]
        found = [piece for batch in wanted for piece in self._pieces_of(batch, waits)]
        # What an unknown rule adds up, it may add up over all.
        beside = [one for one in self._others if one not in self._checked] if found and self._card is None else []
        others = [piece for batch in beside for piece in self._pieces_of(batch, waits)]
        if sum(piece.size for piece in found + others) <= MOST_WHOLE:
            return found + others
        sized = sorted(((self._weight(piece), piece) for piece in found), key=lambda one: one[0])
        firsts = [*{piece.batch.members[0].series: piece for _, piece in reversed(sized)}.values()]
        weights = {id(piece): weight for weight, piece in sized}
        chosen, room, left = list[_Piece](), MOST_BYTES, MOST_WHOLE
        for piece in [*firsts, *(one for _, one in sized if one not in firsts)]:
            weight, is_first = weights[id(piece)], piece in firsts
            extra = piece.size if piece.is_whole and not is_first else 0
            if weight <= room and extra <= left:
                chosen.append(piece)
                room, left = room - weight, left - extra
            else:
                heavy = f"its copies would take {weight >> 20:,} MiB of {MOST_BYTES >> 20:,}"
                why = heavy if weight > room else _LEFT_OUT
                self.why |= {id(param): why for param in piece.params}
        return chosen

    def _pieces_of(self, batch: Batch, waits: bool) -> list[_Piece]:
        rows = []
        for row, member in enumerate(batch.members):
            param, gradient = member.param, member.param.grad
            if (gradient is None and not waits) or not param.requires_grad or id(param) in self.why:
                continue
            if gradient is not None and gradient.is_sparse:
                self.why[id(param)] = "its gradient is sparse"
            elif is_dtensor(param) and not self._is_elementwise:
                self.why[id(param)] = "its weights lie on several devices, and its rule mixes their elements"
            else:
                rows.append(row)
        if not self._is_elementwise:
            return [_Piece(batch.picked([row]), True) for row in rows]
        # Those with a gradient by now are most likely those with one after the closure.
        keys = [(self._alike(batch.members[row].param), batch.members[row].param.grad is None) for row in rows]
        parts = [[rows[at] for at in own] for own in batch.split(keys)]
        return [_Piece(batch if len(own) == len(batch.members) else batch.picked(own), False) for own in parts]

    def _alike(self, param: Tensor) -> Hashable:
        """What the states of tensors that are stepped as one have in common: keys, and numbers that count."""
        shaped = self._shaped
        return tuple(
            (name, value is None if name in shaped or value is None else float(value))
            for name, value in self._optimizer.state.get(param, {}).items()
        )

    @property
    def _shaped(self) -> tuple[str, ...]:
        return () if self._card is None else self._card.state

    def _weight(self, piece: _Piece) -> int:
        """Bytes that a piece takes, in both copies, with its gradients."""
        state = weigh(*(self._optimizer.state.get(param) for param in piece.params))
        elements = max(1, sum(param.numel() for param in piece.params))
        return 2 * (2 * weigh(*piece.params) + state) * piece.size // elements

    def _copy_of(self, piece: _Piece) -> Copy:
        params, group = piece.params, piece.batch.members[0].group
        states = [self._optimizer.state.get(param) for param in params]
        values, first = piece.kept(params), states[0]
        if piece.is_whole:
            return Copy(group, like(params[0], values), copy.deepcopy(first), params[0])
        state = None if first is None else {name: self._state_of(piece, name, states) for name in first}
        return Copy(group, Parameter(values), state)

    def _state_of(self, piece: _Piece, name: str, states: Sequence[Any]) -> Any:
        value = states[0][name]
        if name in self._shaped and value is not None:
            return piece.kept([state[name] for state in states])
        return value.clone() if isinstance(value, Tensor) else copy.copy(value)

    def _step(self, users: Mapping[int, Tensor]) -> None:
        assert self._shadow is not None
        given, bare = list[Tensor | None](), list[Tensor | None]()
        for piece in self._pieces:
            now = [gradient_of(param) for param in piece.params]
            own = [one for one in now if one is not None and not one.is_sparse]
            if len(own) < len(now):
                if not piece.is_whole or now != [None]:
                    self.why |= {id(param): "its gradient is sparse, or none came" for param in piece.params}
                given.append(None)
                bare.append(None)
                continue
            given.append(piece.kept(own))
            # A plan's own coupled decay lies in the gradient by now, in a tensor of its own.
            before = [users.get(id(param), one) for param, one in zip(piece.params, own, strict=True)]
            is_same = all(a is b for a, b in zip(own, before, strict=True))
            bare.append(given[-1] if is_same else piece.kept(before))
        starts = [self._starts.get(id(piece.params[0])) if piece.is_whole else None for piece in self._pieces]
        for piece, *ends in zip(self._pieces, *self._shadow.steps(given, bare, starts), strict=True):
            samples = (self._samples(piece, one) for one in ends)
            self.ends |= zip(map(id, piece.params), zip(*samples, strict=True), strict=True)

    def _samples(self, piece: _Piece, tensor: Tensor) -> Sequence[Tensor]:
        return [sampled(tensor, piece.batch.most)] if piece.is_whole else torch.split(tensor, piece.batch.counts)


def _is_before(like: Tracked) -> bool:
    return like.source == "pass" and like.pulled.site is Site.BEFORE
