"""Which weight decay is best in three small tasks, and could one have known beforehand?

Digits with 36 % of the training labels wrong (an MLP), MNIST-1D with 1,000 rows (a CNN; there the loss decides), and
Fashion-MNIST with 40 % of the labels wrong (a CNN, where its files are at hand: set TORCHDECAY_FASHION_MNIST). AdamW,
1,000 steps. lab.sweep tries decoupled decay: AdamW's default of 0.01, one known to help, and what td.suggest
says before the first step. It chooses on validation rows; the claims are about test rows.
"""

from __future__ import annotations

import dataclasses

import torchdecay as td
from study import Claim, Found, Row, less, main
from torchdecay import lab

TASKS = {"digits": (10,), "mnist1d": (0.3,), "fashion": (3,)}
DEFAULT, SEEDS = 0.01, (0, 1, 2)


def measure(quick: bool) -> Found:
    parts, notes = [], []
    for name, values in TASKS.items():
        try:
            task = lab.task_named(name)
        except td.TaskError as error:
            notes.append(f"{name} was left out: {error}")
            continue
        parts.append(swept(dataclasses.replace(task, num_steps=20 if quick else 1000, eval_every=1000), values))
    return Found(
        seeds=SEEDS,
        rows=[row for part in parts for row in part[0]],
        claims=[claim for part in parts for claim in part[1]],
        notes=notes,
    )


def swept(task: lab.Task, values: tuple[float, ...]) -> tuple[list[Row], list[Claim]]:
    lr = task.optimizer([{"params": task.model().parameters()}]).param_groups[0]["lr"]
    rows = len(task.data(0).train[0])
    run = td.Run(steps=task.num_steps, batch_size=task.batch_size, num_samples=rows, lr=lr)
    suggested = float(f"{td.suggest(task.model(), run=run).decay.coefficient:.2g}")
    found = lab.sweep(task, "decoupled", {DEFAULT, *values, suggested}, seeds=SEEDS, engine="serial")
    compared, curve = found.comparison(), "test_score" if task.score else "test_loss"
    sign, what = ("above", "test accuracy") if task.score else ("below", "test loss")
    chosen, default = found.best.point.label, f"decoupled({DEFAULT:g})"
    from_none = {label: less(compared, label, "none", curve) for label in (chosen, default)}
    enough = 0.02 if task.score else 0.1
    said = less(compared, f"decoupled({suggested:g})", chosen, curve)
    return (
        [
            Row(setting=f"{task.name}, {label}", measured={what: compared.final(label, curve)})
            for label in compared.labels
        ],
        [
            Claim(
                said=f"{task.name}: the chosen decay beats none on rows that took no part in the choice.",
                number=f"{what}, {chosen} less none",
                **{sign: 0.0},
                **from_none[chosen],
            ),
            Claim(
                said=f"{task.name}: AdamW's default of {DEFAULT:g} changes nothing in so short a run.",
                number=f"{what}, {default} less none",
                above=-enough,
                below=enough,
                **from_none[default],
            ),
            Claim(
                said=f"{task.name}: what td.suggest says is as good as what the sweep chose.",
                number=f"{what}, decoupled({suggested:g}) less {chosen}",
                **{sign: -enough if task.score else enough},
                **said,
            ),
        ],
    )


if __name__ == "__main__":
    main(measure)
