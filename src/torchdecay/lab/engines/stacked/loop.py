"""The training loop of a stack: the same steps, measurements and order as `lab.training.train`, for all at once."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from torchdecay.errors import RAISED, NotCompiledWarning
from torchdecay.lab.engines.stacked.lanes import lanes_of, order_of
from torchdecay.lab.engines.stacked.losses import Losses, Measured, measure
from torchdecay.lab.engines.stacked.lowered import Form, Lowered, form_of
from torchdecay.lab.engines.stacked.members import StackedMember
from torchdecay.lab.engines.stacked.prepare import Prepared
from torchdecay.lab.engines.stacked.pulls import LaneDecay, MembersRefused, initial_of
from torchdecay.lab.engines.stacked.tensors import Rows, Stack, norms_of, rows_of
from torchdecay.lab.training.results import Failure, TrainingRun
from torchdecay.lab.training.running import Record
from torchdecay.lab.training.train import batches_of
from torchdecay.lab.training.trial import Assignment, Trial
from torchdecay.text import describe_error

TIMED_STEPS = 20
COMPILE_SECONDS = 12.0
"""What compiling a step takes at most, cold."""


class StackedRun:
    """Several members of a task while they train."""

    def __init__(
        self,
        assignment: Assignment,
        prepared: Prepared,
        members: Sequence[StackedMember],
        *,
        compile: bool | None,
    ) -> None:
        self.task, self.step = assignment.training, 0
        self._on_run, self._on_step = assignment.on_run, assignment.on_step
        seeds = list(dict.fromkeys(member.trial.seed for member in members))
        places = [seeds.index(member.trial.seed) for member in members]
        order = order_of(members, places)
        self.members = [members[i] for i in order]
        data = [prepared.data[seed] for seed in seeds]
        self._batches = [
            batches_of(one.train, self.task.batch_size, torch.Generator().manual_seed(seed))
            for one, seed in zip(data, seeds, strict=True)
        ]
        self._parts = {part: Rows.of([one.parts[part] for one in data]) for part in data[0].parts}
        self.stack = Stack.of([prepared.models[seed] for seed in seeds], [places[i] for i in order])
        self._watched = prepared.watched
        self._initial = initial_of(self.stack, self.members)
        self._lanes = lanes_of(self.task, self.stack, self.members)
        self._decays = self._decays_of_lanes()
        self._targets = [y for one in data for _, y in one.parts.values()]
        self._losses = Losses(self.task, self._targets)
        self._compile = compile
        self._form: Form | None = None
        self._grads: list[Tensor | None] | None = None
        self._outputs: Tensor | None = None
        self._reuses_outputs = False
        self._records = [Record() for _ in self.members]
        self._handed_over: set[Trial] = set()
        self._seconds = [0.0] * len(self.members)
        self._clock, self._told = time.perf_counter(), 0
        self._step_seconds: list[float] = []

    def advance(self, until: int) -> None:
        """Train up to step `until`, and compute and measure there, but do not take that step."""
        self._clock = time.perf_counter()
        while self.members:
            self._compute()
            if self._is_point() and not self._has_point():
                self._measure(range(len(self.members)))
            if self.step == until:
                break
            started = time.perf_counter()
            self._update()
            if self._step_seconds:
                self._step_seconds[-1] += time.perf_counter() - started
            self.step += 1
            self._grads = None
        self._share_time()

    def deciding(self) -> dict[Trial, float]:
        """Each living member's deciding measure at this step; more is better."""
        part = "validation" if "validation" in self._parts else "test"
        measured = self._measured(part)
        values = [-loss for loss in measured.losses] if self.task.score is None else measured.scores or []
        return {member.trial: value for member, value in zip(self.members, values, strict=True)}

    def stop(self, trials: frozenset[Trial]) -> None:
        """End the runs of some trials here, with curves up to this step."""
        ending = [i for i, member in enumerate(self.members) if member.trial in trials]
        if not self._has_point():
            self._measure(ending)
            ending = [i for i, member in enumerate(self.members) if member.trial in trials]
        for place in ending:
            self._hand_over(place)
        self._drop(ending)

    def finish(self) -> None:
        """End all runs here."""
        for place in range(len(self.members)):
            self._hand_over(place)
        self.members = []

    def give_up(self) -> None:
        """Hand over what there is of runs that won't go on: curves up to their last point."""
        for place, record in enumerate(self._records):
            # What stops it may come while a point is added.
            count = min([len(record.steps), *(len(values) for values in record.columns.values())])
            if count and record.columns:
                whole = {name: values[:count] for name, values in record.columns.items()}
                self._records[place] = Record(record.steps[:count], whole)
                self._hand_over(place, unfinished=True)
        self.members = []

    def fail(self, error: BaseException) -> None:
        """End all runs with an error that none of them is known to have caused."""
        for member in self.members:
            self._fail_one(member.trial, error)
        self.members = []

    def _compute(self) -> None:
        """Gradients of this step, from the next rows of every seed."""
        if self._grads is not None:
            return
        rows = Rows.of([next(batches) for batches in self._batches])
        started = time.perf_counter()
        if self._form is None:
            self._form = form_of(self.task, self.stack, rows, self._targets)
        while self.members:
            kept = {name: buffer.clone() for name, buffer in self.stack.buffers.items()}
            try:
                grads, self._outputs = self._form.gradients(rows)
                break
            except RAISED as error:
                self.stack.buffers = kept
                self._fail_alone(rows, error)
        else:
            return
        self._step_seconds.append(time.perf_counter() - started)
        if self._is_time_to_compile():
            self._start_compiled(rows, grads)
        self._grads = grads
        named = dict(zip(self.stack.names, grads, strict=True))
        for lane in self._lanes:
            lane.give(named)

    def _decays_of_lanes(self) -> list[LaneDecay]:
        return [LaneDecay(lane, self.members[lane.members], self._initial) for lane in self._lanes]

    def _update(self) -> None:
        while self.members:
            try:
                for decay in self._decays:
                    decay.prepare()
                break
            except MembersRefused as error:
                self._fail(error.refused)
        for decay in self._decays:
            decay.step()

    def _is_point(self) -> bool:
        return self.step % self.task.eval_every == 0 or self.step == self.task.num_steps

    def _has_point(self) -> bool:
        steps = self._records[0].steps if self._records else []
        return bool(steps) and steps[-1] == self.step

    def _measure(self, places: Sequence[int]) -> None:
        """A point of the curves of some members."""
        assert self._grads is not None
        columns: dict[str, list[float]] = {}
        raised: dict[int, BaseException] = {}
        for part in self._parts:
            measured = self._measured(part)
            raised |= measured.raised
            columns[f"{part}_loss"] = measured.losses
            if measured.scores is not None:
                columns[f"{part}_score"] = measured.scores
        columns["weight_norm"] = norms_of([self.stack.params[name] for name in self._watched])
        columns["gradient_norm"] = norms_of([grad for grad in self._grads if grad is not None])
        for place in places:
            self._records[place].add(self.step, **{name: values[place] for name, values in columns.items()})
        self._share_time()
        self._on_step(len(self.members) * (self.step - self._told))
        self._told = self.step
        if raised:
            self._fail({place: error for place, error in raised.items() if place in set(places)})

    def _measured(self, part: str) -> Measured:
        assert self._form is not None
        rows = self._parts[part]
        targets = rows.targets(self.stack.seed_of)
        if part == "train" and self._reuses_outputs and self._outputs is not None:
            return measure(self.task, self._losses, self._outputs, targets)
        outputs = self._form.outputs(rows)
        if part == "train" and self.task.batch_size is None and self.step == 0 and self._outputs is not None:
            # A full batch's own outputs will do, unless the model differs in eval mode, as dropout does.
            self._reuses_outputs = isinstance(self._form, Lowered) or torch.equal(outputs, self._outputs)
        return measure(self.task, self._losses, outputs, targets)

    def _hand_over(self, place: int, *, unfinished: bool = False) -> None:
        member, record = self.members[place], self._records[place]
        if member.trial in self._handed_over:
            return
        self._handed_over.add(member.trial)
        run = TrainingRun(
            label=member.trial.contender.label,
            decay=member.trial.contender.printed,
            seed=member.trial.seed,
            steps=tuple(record.steps),
            seconds=self._seconds[place],
            unfinished=unfinished,
            **record.curves(),
        )
        self._on_run(member.trial, run)

    def _share_time(self) -> None:
        now = time.perf_counter()
        for place in range(len(self.members)):
            self._seconds[place] += (now - self._clock) / len(self.members)
        self._clock = now

    def _fail_alone(self, rows: Rows, error: BaseException) -> None:
        """Fail the members that raise when they are computed alone; where none does, it is not any member's fault."""
        found: dict[int, BaseException] = {}
        for place in range(len(self.members)):
            x, y = rows.inputs([self.stack.seed_of[place]]), rows.targets([self.stack.seed_of[place]])
            tensors = {name: tensor[place].clone() for name, tensor in (self.stack.params | self.stack.buffers).items()}
            try:
                with torch.no_grad():
                    self.task.loss(functional_call(self.stack.model, tensors, (x[0],)), y[0])
            except RAISED as own:
                found[place] = own
        if not found:
            raise error
        self._fail(found)

    def _fail(self, errors: Mapping[int, BaseException]) -> None:
        for place, error in errors.items():
            self._fail_one(self.members[place].trial, error)
        self._drop(list(errors))

    def _fail_one(self, trial: Trial, error: BaseException) -> None:
        self._on_run(trial, Failure.of(trial.contender.label, trial.seed, error))

    def _drop(self, places: Sequence[int]) -> None:
        """Go on without some members."""
        if not places:
            return
        gone = set(places)
        left = [i for i in range(len(self.members)) if i not in gone]
        self.stack.select(left)
        self._initial = {name: rows_of(tensor, left) for name, tensor in self._initial.items()}
        start = 0
        lanes = []
        for lane in self._lanes:
            own = [i for i in left if lane.members.start <= i < lane.members.stop]
            if own:
                first = lane.members.start
                lane.move(self.stack, [i - first for i in own], slice(start, start + len(own)))
                lanes.append(lane)
            start += len(own)
        self._lanes = lanes
        self.members, self._records, self._seconds = (
            [self.members[i] for i in left],
            [self._records[i] for i in left],
            [self._seconds[i] for i in left],
        )
        self._decays = self._decays_of_lanes()
        if self._grads is not None:
            self._grads = [None if grad is None else rows_of(grad, left) for grad in self._grads]
        if self._outputs is not None and len(self._outputs) > len(left):
            self._outputs = rows_of(self._outputs, left)
        if self._form is not None:
            self._form.rebuild()

    def _is_time_to_compile(self) -> bool:
        if self._compile is None and len(self._step_seconds) == TIMED_STEPS:
            usual = sorted(self._step_seconds)[TIMED_STEPS // 2]
            gain = GAIN[type(self._form) is Lowered]
            pays = (self.task.num_steps - self.step) * usual * gain > COMPILE_SECONDS
            self._compile = pays and not self.stack.buffers
            return self._compile
        return bool(self._compile) and len(self._step_seconds) == 1

    def _start_compiled(self, rows: Rows, known: list[Tensor | None]) -> None:
        """Go on with a compiled step, if there is a compiler and it computes the same."""
        reason = "the model has buffers, which a compiled step might not update" if self.stack.buffers else ""
        known = [None if grad is None else grad.clone() for grad in known]
        form = form_of(self.task, self.stack, rows, self._targets, compile=True)
        state = torch.random.get_rng_state()
        if not reason:
            try:
                grads, _ = form.gradients(rows)
                if not torch.equal(state, torch.random.get_rng_state()) or not _alike(grads, known):
                    reason = "its gradients are not those of the step as it is"
            except Exception as error:
                # Backends raise whatever their toolchain does; all of it means that this can't be compiled.
                reason = describe_error(error)
        torch.random.set_rng_state(state)
        if reason:
            warnings.warn(f"the step is not compiled: {reason}. It runs as it is.", NotCompiledWarning, stacklevel=2)
        else:
            self._form = form


GAIN: Mapping[bool, float] = {True: 0.1, False: 0.4}
"""The part of a step's time that compiling saves: of a chain of products, and of a model under vmap."""


def _alike(grads: Sequence[Tensor | None], known: Sequence[Tensor | None]) -> bool:
    return all(
        a is b is None or (a is not None and b is not None and torch.allclose(a, b, 1e-3, 1e-5, equal_nan=True))
        for a, b in zip(grads, known, strict=True)
    )
