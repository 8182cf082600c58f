"""The catalog of everything that `audit` can find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Code:
    """An entry of the catalog.

    Attributes:
        code: stable: WD1xx selection, WD2xx wiring, WD3xx magnitude, WD4xx interplay.
        title: a few words.
        severity: "error" is certainly not what was meant, "warning" probably not, "info" worth knowing.
        why: why it matters.
        fix: what to do about it.
    """

    code: str
    title: str
    severity: Severity
    why: str
    fix: str


CATALOG: dict[str, Code] = {
    code.code: code
    for code in (
        # ── selection: who decays ──
        Code(
            "WD101",
            "bias, norm or scale decays",
            "warning",
            "Pulling these toward 0 weakens the layer and shrinks nothing that overfits; some models ask themselves.",
            "Build the groups with td.param_groups(model, wd), which spares them.",
        ),
        Code(
            "WD102",
            "embedding, position, token or state-space parameter decays",
            "info",
            "Rows that a batch does not use shrink all the same, and A_log and D have a meaning at their own values.",
            "Spare them: td.param_groups(model, wd), or a rule of your own if you mean it.",
        ),
        Code(
            "WD103",
            "weight does not decay",
            "info",
            "Others in this model do, and this one is a weight like them.",
            "If that is not meant, look at the rule or skip list that spares it.",
        ),
        Code(
            "WD104",
            "trainable parameter in no group",
            "error",
            "It requires a gradient but no optimizer moves it.",
            "Give it to an optimizer, or freeze it with requires_grad_(False).",
        ),
        Code(
            "WD105",
            "parameter of the optimizer is not in the model",
            "error",
            "Without the model's own, this optimizer trains nothing: the model was re-created, or FSDP2 replaced them.",
            "Build the optimizer after the model is complete and wrapped.",
        ),
        Code(
            "WD106",
            "parameter twice in the optimizers",
            "error",
            "torch only warns; it is updated and decays twice per step.",
            "Give each parameter to one group of one optimizer.",
        ),
        Code(
            "WD107",
            "tied weight decays though one of its uses is spared",
            "warning",
            "It is one tensor: an output layer tied to an embedding shrinks the embedding.",
            "Spare it, or accept it for both uses with an explicit rule.",
        ),
        Code(
            "WD108",
            "frozen, but still moving",
            "warning",
            "It requires no gradient, yet an old one is there, and optimizers look at that only: they step and decay.",
            "Set p.grad = None when you freeze it, or take it out of the optimizer.",
        ),
        Code(
            "WD109",
            "role unknown",
            "info",
            "What the parameter is for could not be read from the model, so whether it should decay is open.",
            'Say it: rules=[td.rule("pattern", td.DEFAULT), *td.STANDARD].',
        ),
        Code(
            "WD110",
            "idle embedding rows decay",
            "warning",
            "Rows that this batch did not touch have no gradient and shrink at every step; rare words fade.",
            'Spare the embedding, or attach td.decoupled(wd, rows="touched").',
        ),
        # ── wiring: does it happen ──
        Code(
            "WD201",
            "group key that is ignored",
            "error",
            "torch ignores keys that it does not know, misspelled ones too, and its default applies.",
            "Correct the spelling.",
        ),
        Code(
            "WD202",
            "empty group",
            "warning",
            "Some libraries drop it, and schedulers then set the wrong groups' rates.",
            "Leave it out; td.param_groups never makes one.",
        ),
        Code(
            "WD203",
            "more groups than settings",
            "info",
            "Groups with equal options could be one; each costs kernel launches at every step.",
            "Merge them; td.param_groups does.",
        ),
        Code(
            "WD204",
            "lr_scale that nobody applies",
            "warning",
            "The key is there, but torch does not read it and the group's lr does not contain it.",
            "Multiply it into lr, or use the scheduler that reads it.",
        ),
        Code(
            "WD205",
            "hooks lost",
            "error",
            "A plan was attached once; deepcopy, pickle and loading into another optimizer leave its hooks behind.",
            "Call td.attach(optimizer, plan) on this optimizer.",
        ),
        Code(
            "WD206",
            "planned, but never attached",
            "error",
            "The groups come from a plan whose decay the constructor can't carry out.",
            "Call td.attach(optimizer, plan) once, before training.",
        ),
        Code(
            "WD207",
            "decays twice: by hook and natively",
            "error",
            "A plan decays this group by hook, and its own weight_decay is not 0.",
            "Leave weight_decay to the handle; change it with handle.update(plan).",
        ),
        Code(
            "WD208",
            "not what the plan says",
            "error",
            "The group's weight_decay is not the plan's: a checkpoint, or another hand, has replaced it.",
            "Load with td.load_optimizer, or attach the plan.",
        ),
        Code(
            "WD209",
            "strides that a fused CPU optimizer misreads",
            "error",
            "The fused kernel walks weight and gradient alike, as memory without gaps: updates are silently wrong.",
            "Make both contiguous, or both channels_last; or build the optimizer with fused=False.",
        ),
        Code(
            "WD210",
            "penalty in the loss and weight_decay together",
            "warning",
            "The weight is pulled twice.",
            "Keep one of them.",
        ),
        Code(
            "WD211",
            "ASGD's hidden decay",
            "info",
            "ASGD shrinks weights by lambd (1e-4) in every step, whatever weight_decay is.",
            "Set lambd=0 if you do not want it.",
        ),
        Code(
            "WD212",
            "planned penalty is not in the loss",
            "error",
            "The plan decays rows through the loss, but this loss does not depend on them that way.",
            "Write loss = loss + handle.penalty(model).",
        ),
        Code(
            "WD213",
            "the attached plan fits no longer",
            "error",
            "Parameters were added or unfrozen that the plan has no row for: the next step raises.",
            "Call handle.update(td.plan(model, ...)) with a plan of the model as it is now.",
        ),
        # ── magnitude: how hard ──
        Code(
            "WD301",
            "weight_decay is not a usable number",
            "error",
            "torch checks the constructor's default only, not each group's.",
            "Give a finite number, at least 0.",
        ),
        Code(
            "WD302",
            "huge weight_decay",
            "warning",
            "Weights lose more than a hundredth of their size per step, whatever the gradient says.",
            "Check the units: td.forecast says what it means in half-lives.",
        ),
        Code(
            "WD303",
            "lr x weight_decay reaches 1",
            "error",
            "At 1 every weight becomes 0 in a step, above 1 it changes its sign.",
            "Lower one of them, also at the peak of the schedule.",
        ),
        Code(
            "WD304",
            "decay rounded away",
            "error",
            "The dtype can't show so small a shrink: each step rounds back to where it was.",
            "Attach td.decoupled(wd), which pays it with stochastic rounding, or keep float32 weights.",
        ),
        Code(
            "WD305",
            "time scale shorter than an epoch",
            "warning",
            "The weights forget faster than the data comes round.",
            "Lower the coefficient until 1/(lr x wd) is at least an epoch (arXiv 2405.13698).",
        ),
        Code(
            "WD306",
            "time scale longer than the run",
            "warning",
            "Decay this weak does nothing within the run.",
            "Raise the coefficient until 1/(lr x wd) is within the run, or leave it out.",
        ),
        Code(
            "WD307",
            "learning rate above its peak",
            "warning",
            "The decay is scaled by lr/max_lr, which is above 1 here.",
            "Give the decay its max_lr, or attach it after the scheduler is made.",
        ),
        # ── interplay ──
        Code(
            "WD401",
            "coupled L2 under an adaptive optimizer",
            "warning",
            "The pull is divided by the size of the gradient: weights with large gradients hardly decay.",
            "Use AdamW, or td.attach(optimizer, td.plan(model, td.decoupled(wd))).",
        ),
        Code(
            "WD402",
            "decay that can't shrink: orthogonal parametrization",
            "warning",
            "An orthogonal weight keeps its length: decay turns it back to where it started, or does nothing at all.",
            "Spare what is behind it.",
        ),
        Code(
            "WD403",
            "coupled decay on a weight without gradient",
            "warning",
            "Under an adaptive optimizer its step is about the learning rate, however small the coefficient is.",
            "Spare or freeze it, or use decoupled decay.",
        ),
        Code(
            "WD404",
            "scale-invariant weight decays",
            "info",
            "A norm follows, so decay sets the effective learning rate and not the function.",
            "Nothing to mend; td.corrected keeps its norm steady under a schedule.",
        ),
        Code(
            "WD405",
            "sparse gradient can't decay",
            "error",
            "torch's optimizers refuse weight_decay on sparse gradients, or have none.",
            "Attach td.decoupled(wd), or spare the embedding.",
        ),
    )
}
