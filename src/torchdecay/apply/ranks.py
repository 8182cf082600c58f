"""Processes that train together: whether they do the same, asked over the store by which they met.

Not by a collective: there a process to which the others don't come hangs for as long as its backend likes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor

from torchdecay.errors import ApplyError, LoadError, TorchdecayError
from torchdecay.plans.controllers import BySpectrum, GradientNormRatio, Stable
from torchdecay.plans.plan import Plan
from torchdecay.sharding import cuts, is_dtensor, is_flat_part, left_behind, local

T = TypeVar("T")
PATIENCE = 120.0
"""Seconds that a process waits for the others where it needs them."""
OVER_ALL = (Stable, GradientNormRatio, BySpectrum)
"""Controllers that measure all parameters together."""
_MOST_ROWS = 2_000
"""Plans of more rows are not shown to the others, and their difference is not told."""
_TIMES: Counter[str] = Counter()


def holders(params: Iterable[Tensor]) -> tuple[int, ...]:
    """The ranks that have parts of these tensors, all together; none where nobody else has any."""
    found: set[int] = set()
    for param in params:
        if is_dtensor(param):
            found.update(param.device_mesh.mesh.flatten().tolist())  # type: ignore[attr-defined]
        elif is_flat_part(param):
            for group in cuts(param):
                found.update(torch.distributed.get_process_group_ranks(group))
    return tuple(sorted(found))


def check_in_place(params: Iterable[Tensor], *, are_idle: bool = False) -> None:
    """Refuse parameters that the model no longer has, where no model is given to look them up in.

    Args:
        params: the parameters.
        are_idle: whether it is known that they have no gradients in a step.

    Raises:
        ApplyError: others stand in the place of some of them.
    """
    if gone := left_behind(params, are_idle=are_idle):
        raise ApplyError(
            f"{len(gone)} parameters of the optimizer are in no model any more; the first is of shape "
            f"{tuple(gone[0].shape)}.",
            "fully_shard and tensor parallel put others in their place after the optimizer was built; what it has "
            "trains nothing.",
            "Shard the model first, then build the optimizer from its parameters.",
        )


def check_stages(group: Any, plan: Plan) -> None:
    """Whether all stages of a pipeline have the forms whose sums go over all of them; called on each.

    Raises:
        ApplyError: this process is not of the group, or a stage has others, and would not come to the sums.
    """
    if not isinstance(group, torch.distributed.ProcessGroup) or torch.distributed.get_rank(group) < 0:
        raise ApplyError(
            f"stages is {group!r}, which is no group of processes that this one belongs to.",
            fix='Give the group over the stages: mesh["pp"].get_group(), say.',
        )
    decays = (row.decay for row in plan.rows)
    mine = sorted({repr(one.controller) for one in decays if one is not None and isinstance(one.controller, OVER_ALL)})
    found: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(found, mine, group=group)
    if any(other != mine for other in found):
        told = "; ".join(f"stage {index}: {', '.join(one) or 'none'}" for index, one in enumerate(found))
        raise ApplyError(
            "the stages' plans have other forms that measure all parameters together.",
            f"Stages with one would wait for those without it. {told}.",
            "Let each stage have a row with such a form, or leave stages out.",
        )


@contextmanager
def _reached() -> Iterator[None]:
    """Around what is asked of the store; in words, where the process that keeps it has ended."""
    if not torch.distributed.is_available():
        yield
        return
    try:
        yield
    except torch.distributed.DistError as error:
        raise ApplyError(
            f"the other processes can't be asked any more: {str(error).splitlines()[0]}",
            "The first of them, by which the others find each other, has ended.",
            "What the first to fail has said is the cause. Then go on from the last checkpoint.",
        ) from error


@_reached()
def meet(what: str, params: Iterable[Tensor]) -> None:
    """Wait for all processes that have parts of these tensors to come here, to do "td.attach" say.

    Raises:
        ApplyError: some have not come in `PATIENCE` seconds, or the first has ended.
    """
    ranks, store = holders(params), _store()
    if len(ranks) < 2 or store is None:
        return
    key = _key(what, ranks)
    if store.add(key, 1) >= len(ranks):
        store.set(f"{key}/all", "")
    try:
        store.wait([f"{key}/all"], timedelta(seconds=PATIENCE))
    except RuntimeError as error:
        came = store.add(key, 0)
        raise ApplyError(
            f"{what} was called by {came} of the {len(ranks)} processes that have parts of these weights.",
            f"Numbers of the whole are summed over all of them; the others did not come in {PATIENCE:.0f} seconds.",
            "Call it on every rank, in the same order.",
        ) from error


@_reached()
def in_turn(what: str, work: Callable[[], T], *, leads: bool) -> T:
    """Do some work on the first process, which `leads`, then on the others, which raise what it raises.

    Raises:
        LoadError: of the first, or the first has not done it in `PATIENCE` seconds.
    """
    store = _store()
    if store is None:
        return work()
    key = _key("turn", [what])
    if leads:
        try:
            made = work()
        except LoadError as error:
            store.set(key, json.dumps([error.what, error.why, error.fix]))
            raise
        store.set(key, "")
        return made
    try:
        store.wait([key], timedelta(seconds=PATIENCE))
    except RuntimeError as error:
        raise LoadError(
            f"{what}: the first process has not come in {PATIENCE:.0f} seconds.",
            "It alone writes, and says whether it can.",
            "Make it on every rank, or on the first alone.",
        ) from error
    if said := store.get(key).decode():
        raise LoadError(*json.loads(said))
    return work()


class Agreement:
    """Whether all processes with the same parameters have attached the same plan.

    The first that comes leaves its plan in the store, the others compare theirs with it. Who came first hears of a
    difference before its first step.

    Args:
        plan: the plan.
        decays: a hash of what it says of these parameters.
        params: of the optimizer, by name.
        expected: how many processes should attach it; 0 where nobody knows.
        measured: those whose weights were measured at attach.

    Raises:
        ApplyError: another process has another plan, or had other weights.
    """

    @_reached()
    def __init__(
        self, plan: Plan, decays: str, params: Mapping[str, Tensor], expected: int, measured: Iterable[Tensor]
    ) -> None:
        self._expected, self._plan, self._store = expected, plan, _store()
        if self._store is None:
            return
        # Of FSDP1's parts each process has another shape.
        shapes = {name: () if is_flat_part(param) else tuple(param.shape) for name, param in params.items()}
        self._key = _key("plan", sorted(shapes.items()))
        mine = json.dumps([decays, _weights(measured)])
        shown = f"{self._key}/rows/{decays}"
        if len(plan.rows) <= _MOST_ROWS and not self._store.check([shown]):
            # A plan that can't be written down is not shown.
            with suppress(TorchdecayError):
                self._store.set(shown, plan.to_json())
        first = self._store.compare_set(self._key, "", mine).decode()
        if self._store.add(f"{self._key}/count", 1) >= expected:
            self._store.set(f"{self._key}/all", "")
        if first == mine:
            return
        theirs, _ = json.loads(first)
        if theirs != decays:
            what = f"this process has another plan than the others.{self._difference(theirs)}"
            error = ApplyError(
                what,
                "Their weights would drift apart, or they would wait for each other.",
                "Make the same plan on all.",
            )
        else:
            error = ApplyError(
                "the weights of this process are not those of the others.",
                "What the plan measures of them at attach, references and norms, would differ for good.",
                "Attach after DistributedDataParallel has made them alike, or give all ranks the same seed.",
            )
        self._store.set(f"{self._key}/odd", error.what)
        raise _with_way_out(error)

    @_reached()
    def check(self) -> None:
        """Before the first step: whether all came, with the same.

        Raises:
            ApplyError: one has another plan, or none.
        """
        if self._store is None:
            return
        if self._store.check([f"{self._key}/odd"]):
            said = self._store.get(f"{self._key}/odd").decode()
            raise _with_way_out(ApplyError(f"another process could not attach the plan: {said}"))
        try:
            if self._expected:
                self._store.wait([f"{self._key}/all"], timedelta(seconds=PATIENCE))
        except RuntimeError as error:
            came = self._store.add(f"{self._key}/count", 0)
            raise _with_way_out(
                ApplyError(
                    f"the plan is attached on {came} of {self._expected} processes that train these weights.",
                    "Those without it go another way from the first step on.",
                    "Call td.attach on every rank.",
                )
            ) from error

    def _difference(self, theirs: str) -> str:
        """What the plan of the others says otherwise, where they could write it down."""
        key = f"{self._key}/rows/{theirs}"
        assert self._store is not None
        with suppress(TorchdecayError):
            if self._store.check([key]):
                return f"\n{Plan.from_json(self._store.get(key).decode()).diff(self._plan)}"
        return ""


def _with_way_out(error: ApplyError) -> ApplyError:
    return ApplyError(error.what, error.why, f"{error.fix} Where it is meant: attach(..., check_ranks=False).".lstrip())


def _weights(measured: Iterable[Tensor]) -> list[int]:
    """A sum over the bits of each replica, on which equal weights agree on any machine."""
    sums = []
    for one in measured:
        if not (is_dtensor(one) or is_flat_part(one) or one.is_meta or one.is_complex()):
            sums.append(local(one.detach()).contiguous().view(_INTEGERS[one.dtype.itemsize]).sum(dtype=torch.int64))
    return [int(total) for total in sums]


_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _key(what: str, of: Sequence[Any]) -> str:
    """A place in the store: the same on each process that comes for the same, and another each time."""
    kind = f"torchdecay/{what}/{hashlib.sha256(repr(of).encode()).hexdigest()[:16]}"
    _TIMES[kind] += 1
    return f"{kind}/{_TIMES[kind]}"


def _store() -> Any:
    """Where the processes met; None for one that is alone."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() < 2:
        return None
    return distributed.distributed_c10d._get_default_store()
