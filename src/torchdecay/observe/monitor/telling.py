"""A history as a table of text."""

from __future__ import annotations

import math

from torchdecay.observe.monitor.history import History, Shrink


def as_text(history: History) -> str:
    """One line per group: its norms, its shrink as planned and as it was, and what was loudest; then the alarms."""
    steps = history.steps
    head = ("group", "weights", "decay", "norm", "", "shrunk by", "planned", "decay/update", "measured")
    lines = [head]
    for name in history.groups:
        about = history.of(name)
        norms = history.curve(name, "weight_norm")[1] if history.records else ()
        shrink = history.shrink(name)
        lines.append(
            (
                name,
                f"{about.num_elements:,}",
                about.decay or "spared",
                f"{norms[0]:.4g} →" if norms else "",
                f"{norms[-1]:.4g}" if norms else "",
                _last(shrink, "realized"),
                _last(shrink, "planned"),
                _ratio(history, name),
                {"pass": "its own pass", "state": "less the update", "planned": "no", "none": "no"}[about.source],
            )
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    told = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    span = f"steps {steps[0]} to {steps[-1]}" if steps else "no steps"
    told += ["", f"{len(history.records)} records, {span}; {len(history.events)} alarms"]
    told += [str(event) for event in history.events]
    return "\n".join(told)


def _last(shrink: Shrink, which: str) -> str:
    sums = getattr(shrink, which)
    if sums is None:
        return "?"
    share = -math.expm1(-sums[-1])
    return f"{share:.2%}" if abs(share) >= 5e-5 else "0%"


def _ratio(history: History, group: str) -> str:
    known = set(history.quantities)
    if not history.of(group).decay or not {"decay_norm", "update_norm"} <= known:
        return ""
    decay = dict(zip(*history.curve(group, "decay_norm"), strict=True))
    update = dict(zip(*history.curve(group, "update_norm"), strict=True))
    both = [step for step in decay if update.get(step)]
    return f"{decay[both[-1]] / update[both[-1]]:.2g}" if both else ""
