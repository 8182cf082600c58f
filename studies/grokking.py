"""Does weight decay decide whether a network finds a rule, and does it matter which form it has?

Addition modulo 59 from half of all pairs, embedding and MLP, all of which decays; AdamW at learning rate 0.005, all
pairs at once, 1,000 steps. Six forms with the same number, 1, untuned: decoupled, cautious, coupled, stable, huber
(its delta 1 is beyond most weights), norm_control toward the norm at the start. "Finds the rule" is a test accuracy
above 0.95.
"""

from __future__ import annotations

import dataclasses

from study import Claim, Found, less, main, rows_of
from torchdecay import lab

FORMS = ("decoupled:1", "cautious:1", "coupled:1", "stable:1", "huber:1", "norm_control:1")


def measure(quick: bool) -> Found:
    task = dataclasses.replace(lab.task_named("grokking"), num_steps=20 if quick else 1000, eval_every=500)
    found = lab.compare(task, ["none", *FORMS], seeds=3)
    accuracy = {label: found.final(label, "test_score") for label in found.labels}
    others = [label for label in FORMS if label != "decoupled:1"]
    return Found(
        seeds=found.seeds,
        rows=rows_of(found, train_accuracy="train_score", test_accuracy="test_score", weight_norm="weight_norm"),
        claims=[
            Claim(
                said="Without decay the pairs are learned by heart: every training pair, and hardly another.",
                source="arXiv 2201.02177",
                number="test accuracy, none",
                values=accuracy["none"],
                below=0.05,
            ),
            Claim(
                said="With decoupled decay the rule is found.",
                source="arXiv 2201.02177",
                number="test accuracy, decoupled:1",
                values=accuracy["decoupled:1"],
                above=0.95,
            ),
            *(
                Claim(
                    said=f"With the same number {label.partition(':')[0]} does as well as decoupled, to 0.05.",
                    number=f"test accuracy, {label} less decoupled:1",
                    above=-0.05,
                    **less(found, label, "decoupled:1", "test_score"),
                )
                for label in others
            ),
        ],
    )


if __name__ == "__main__":
    main(measure)
