"""Findings: what `audit` reports, as values, and the catalog of everything that it can find."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, overload

from torchdecay.errors import PlanError, listed, nearest, printable, repr_quoted

Severity = Literal["error", "warning", "info"]
_ORDER: dict[str, int] = {"error": 0, "warning": 1, "info": 2}
_KINDS = (("error", "error"), ("warning", "warning"), ("info", "note"))
_GITHUB = {"error": "error", "warning": "warning", "info": "notice"}


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


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that `audit` found.

    Attributes:
        code: of the catalog.
        severity: "error", "warning" or "info".
        where: the optimizer and group, or the model.
        names: the parameters.
        what: what was found, with values.
        why: why it matters.
        fix: what to do.
    """

    code: str
    severity: Severity
    where: str
    names: tuple[str, ...]
    what: str
    why: str
    fix: str

    @property
    def head(self) -> str:
        """Code, place, what was found, and the names, without why and fix."""
        said = printable(f"{self.code} {self.severity}: {self.where}: {self.what}")
        return said + (f"\n    {listed(self.names)}" if self.names else "")

    def __str__(self) -> str:
        return f"{self.head}\n    {self.why}\n    {self.fix}"


@dataclass(frozen=True)
class Audit(Sequence[Finding]):
    """`torchdecay.audit`: the findings, worst first; prints as text.

    Attributes:
        findings: what was found.
        skipped: codes that could not be looked into, with what they would need.
    """

    findings: tuple[Finding, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is neither an error nor a warning."""
        return all(finding.severity == "info" for finding in self.findings)

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes found, each once."""
        return tuple(dict.fromkeys(finding.code for finding in self.findings))

    def filter(self, *, select: Iterable[str] = (), ignore: Iterable[str] = ()) -> Audit:
        """Only the codes selected (all when none is), without those ignored; a prefix such as "WD3" selects many.

        Raises:
            PlanError: a prefix that no code of the catalog has.
        """
        chosen, left_out = prefixes(select), prefixes(ignore)
        return Audit(
            tuple(one for one in self.findings if is_wanted(one.code, chosen, left_out)),
            tuple(one for one in self.skipped if is_wanted(one[0], chosen, left_out)),
        )

    def to_json(self) -> str:
        """The findings as JSON; valid whatever a parameter or a group is called."""
        body = {
            "format": "torchdecay.audit",
            "version": 1,
            "ok": self.ok,
            "findings": [asdict(finding) for finding in self.findings],
            "skipped": [{"code": code, "needs": needs} for code, needs in self.skipped],
        }
        return json.dumps(body, indent=1)

    def to_github(self) -> str:
        """The findings as GitHub workflow commands, one line each, which become annotations."""
        return "\n".join(
            f"::{_GITHUB[one.severity]} title={_escape(f'{one.code} {CATALOG[one.code].title}', more=',:')}::"
            + _escape(" ".join(filter(None, (f"{one.where}: {one.what}.", listed(one.names), one.why, one.fix))))
            for one in self.findings
        )

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Finding, ...]: ...
    def __getitem__(self, index: int | slice) -> Finding | tuple[Finding, ...]:
        return self.findings[index]

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __str__(self) -> str:
        # Why and fix are the catalog's, so they stand once, after the last finding of their code.
        last = {one.code: index for index, one in enumerate(self.findings)}
        lines = [str(one) if last[one.code] == index else one.head for index, one in enumerate(self.findings)]
        lines.append(", ".join(_counted(self.findings, *kind) for kind in _KINDS))
        lines += [f"not looked into: {code} (needs {needs})" for code, needs in self.skipped]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)


def _counted(findings: Iterable[Finding], severity: str, word: str) -> str:
    count = sum(one.severity == severity for one in findings)
    return f"{count} {word}" + ("" if count == 1 else "s")


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Worst first, then by code."""
    return tuple(sorted(findings, key=lambda finding: (_ORDER[finding.severity], finding.code)))


def prefixes(given: Iterable[str]) -> tuple[str, ...]:
    """Codes and prefixes of codes, each of which the catalog has.

    Raises:
        PlanError: one that no code begins with.
    """
    chosen = (given,) if isinstance(given, str) else tuple(given)
    for prefix in chosen:
        if not prefix or not any(code.startswith(prefix) for code in CATALOG):
            raise PlanError(
                f"no finding has the code {repr_quoted(prefix)}.",
                f"Codes go from {min(CATALOG)} to {max(CATALOG)}; a prefix such as WD3 stands for many.",
                nearest(prefix, CATALOG),
            )
    return chosen


def is_wanted(code: str, chosen: tuple[str, ...], left_out: tuple[str, ...]) -> bool:
    """Whether a code is among those chosen (all when none is) and not left out."""
    return (not chosen or code.startswith(chosen)) and not code.startswith(left_out)


def _escape(text: str, *, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


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
            "The model was re-created, or FSDP2 replaced its parameters: this optimizer trains nothing.",
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
