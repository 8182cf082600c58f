"""What a monitor records of each group: the columns of a history."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """One column.

    Attributes:
        name: of the column.
        title: two or three words.
        meaning: what it is, in one sentence.
    """

    name: str
    title: str
    meaning: str


QUANTITIES: dict[str, Quantity] = {
    one.name: one
    for one in (
        Quantity("weight_norm", "Weight norm", "‖θ‖ of the group's weights together, before the step."),
        Quantity("gradient_norm", "Gradient norm", "‖g‖ as the optimizer is given it: clipped, and without its scale."),
        Quantity("lr", "Learning rate", "η, the mean over the group's weights."),
        Quantity("planned_shrink", "Planned shrink", "The fraction of each weight that decay is to take in this step."),
        Quantity("realized_shrink", "Realized shrink", "The fraction that it took: −⟨d, θ⟩/‖θ‖², d being measured."),
        Quantity("carried_shrink", "Carried shrink", "What of that fraction momentum brought from earlier steps."),
        Quantity("followed_every", "Followed", "That was taken from each k-th step, which stood for k of them."),
        Quantity(
            "between_shrink",
            "Between steps",
            "What something took of the weights beside the steps, a hook after one too.",
        ),
        Quantity("sample", "Measured on", "How many weights took the step on copies, see `Series.source`."),
        Quantity("decay_norm", "Decay", "‖d‖, what decay displaced; as planned where nothing could be measured."),
        Quantity("update_norm", "Update", "‖u‖, what the optimizer displaced without decay."),
        Quantity("cosine", "Decay and update", "⟨d, −u⟩/(‖d‖‖u‖): 1 where both lead the same way."),
        Quantity("rotation", "Rotation", "The angle between a tensor before and after the step, in radians."),
        Quantity("predicted_rotation", "Predicted rotation", "The angle that scale-invariant weights settle at."),
        Quantity("effective_lr", "Effective learning rate", "Of scale-invariant weights: η/‖θ‖², Adam's kin η√C/‖θ‖."),
        Quantity("masked_share", "Masked by caution", "The share of weights that cautious decay left alone."),
        Quantity("zero_share", "Zeros", "The share of weights that are exactly 0."),
        Quantity("dual", "Dual variable", "μ of `constrained`, the mean over the group's tensors."),
    )
}
"""By name, in the order of a table."""
