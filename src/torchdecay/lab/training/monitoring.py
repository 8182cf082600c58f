"""A forecast before a training and a monitor during it, put together when it is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.planned_and_measured import Curve, GroupCourse, PlannedAndMeasured
from torchdecay.lab.training.setup import Setup
from torchdecay.observe.forecast.forecast import forecast
from torchdecay.observe.forecast.result import Forecast, GroupForecast
from torchdecay.observe.monitor.history import History
from torchdecay.observe.monitor.monitor import Monitor
from torchdecay.observe.run import Run
from torchdecay.text import describe_error, prose

RECORDS = 25
"""Records of a run, about: enough for a curve, few enough that nobody waits for them."""
_MEASURED = {
    "pass": "around its own pass",
    "state": "the whole displacement less the update, which the optimizer's state tells",
    "shadow": "the difference of two steps of the optimizer's own rule on copies, with decay and without",
    "planned": "not measured: this decay is a term of the loss, or paid when a row is used",
    "none": "not measured: this optimizer's update can't be told from its state",
}
_OTHER = "not compared: what a pull toward a reference, or through a mask, takes off a whole weight is another number"
_BY_HAND = "not measured: added to the gradient by hand, the decay is part of the update"


class Monitoring:
    """Forecasts a training, then records it; `close` ends it, `result` says what was seen.

    Whatever goes wrong here is told in the result's note: what looks on must not stop a training.
    """

    def __init__(self, task: Task, setup: Setup, scheduler: Any, num_rows: int) -> None:
        model, optimizer, plan, by_hand = setup.model, setup.optimizer, setup.plan, setup.handle is None
        self._roles = {name: row.role for row in plan.rows for name in row.names}
        self._by_hand = by_hand
        self._notes: list[str] = []
        self._monitor: Monitor | None = None
        batch = min(task.batch_size or num_rows, num_rows)
        # The loop takes whole batches only.
        run = Run(steps=task.num_steps, lr_schedule=scheduler, batch_size=batch, num_samples=num_rows // batch * batch)
        given: dict[str, Any] = {"optimizer": optimizer} if by_hand else {}
        made = self._try("no forecast", lambda: forecast(plan if by_hand else optimizer, run=run, model=model, **given))
        self._forecast: Forecast | None = made
        self._pulled = {name: group for group in _pulled(made) for name in group.names}
        every = max(1, task.num_steps // RECORDS)
        if self._pulled:
            self._monitor = self._try(
                "not monitored", lambda: Monitor(optimizer, model=model, every_steps=every, by=self._label)
            )

    def close(self) -> None:
        """Take the hooks away."""
        if self._monitor is not None:
            self._monitor.close()

    def result(self) -> PlannedAndMeasured:
        """What was planned and what was measured."""
        history = History() if self._monitor is None else self._monitor.history
        places = {name: one.name for one in history.series for name in one.names}
        groups = tuple(
            self._course(group, history, called)
            for group in _pulled(self._forecast)
            for called in dict.fromkeys(places.get(name, "") for name in group.names)
        )
        names = {places[name] for name in self._pulled if name in places} | {""}
        alarms = () if self._by_hand else tuple(one for one in history.events if not names.isdisjoint(one.groups))
        return PlannedAndMeasured(groups=groups, alarms=alarms, note=" ".join(self._notes))

    def _label(self, name: str) -> str:
        """Weights of one forecast are recorded together, by what they are for."""
        group = self._pulled.get(name)
        return "spared" if group is None else self._called(group)

    def _called(self, group: GroupForecast) -> str:
        roles = ", ".join(dict.fromkeys(self._roles.get(name, "unknown") for name in group.names))
        alike = [one for one in _pulled(self._forecast) if _same_roles(one, group, self._roles)]
        return roles if len(alike) == 1 else f"{roles} {alike.index(group) + 1}"

    def _course(self, group: GroupForecast, history: History, called: str) -> GroupCourse:
        steps: tuple[int, ...] = (0, group.num_steps)
        realized: Curve | None = None
        norms: Curve = ()
        measured = "not measured: nothing was recorded"
        if called:
            shrink, source = history.shrink(called), history.of(called).source
            steps, norms = shrink.steps, history.curve(called, "weight_norm")[1]
            measured = _BY_HAND if self._by_hand else _MEASURED[source]
            if not self._by_hand and source == "shadow":
                why = history.unmeasured.get(called, "")
                realized, measured = shrink.realized, f"not measured: {why}" if why else measured
            elif not self._by_hand and source in ("pass", "state"):
                # Exact, and yet no fraction of the weights that the monitor could plan: it is one of something else.
                other = group.prediction == "exact" and shrink.planned is None
                realized, measured = (None, _OTHER) if other else (shrink.realized, measured)
        logs = [group.log_retention_at(min(step, group.num_steps)) for step in steps]
        planned = tuple(-log for log in logs if log is not None)
        return GroupCourse(
            name=called or self._called(group),
            decay=group.decay,
            num_elements=group.num_elements,
            prediction=group.prediction,
            why=group.why,
            fraction=group.fraction,
            half_life=group.half_life,
            timescale=group.timescale,
            timescale_epochs=group.timescale_epochs,
            remarks=tuple(str(remark) for remark in group.remarks),
            steps=steps,
            planned=planned if planned and len(planned) == len(steps) else None,
            realized=realized,
            measured=measured,
            weight_norm=norms,
        )

    def _try(self, what: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except Exception as error:
            said = prose(describe_error(error, where=True))
            self._notes.append(f"{what[:1].upper()}{what[1:]}: {said}")
            return None


def _pulled(made: Forecast | None) -> list[GroupForecast]:
    return [] if made is None else [group for group in made.groups if group.decay != "none" and group.names]


def _same_roles(one: GroupForecast, other: GroupForecast, roles: dict[str, str]) -> bool:
    return {roles.get(name) for name in one.names} == {roles.get(name) for name in other.names}
