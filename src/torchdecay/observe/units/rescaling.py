"""`rescale`: what must change when the run or the width does."""

from __future__ import annotations

from typing import Any

from torchdecay.arguments import check_count, check_number, check_word
from torchdecay.errors import UnitError
from torchdecay.observe.run import Run
from torchdecay.observe.units.decays import unit_of
from torchdecay.observe.units.peak import peak_lr
from torchdecay.observe.units.rescaled import Rescaled, Version
from torchdecay.observe.units.scaling_rules import RULES, WIDTHS
from torchdecay.plans.decay import Decay
from torchdecay.text import spelled

FORMS = ("decoupled", "independent", "per_step")


def rescale(
    value: float | Decay,
    *,
    before: Run | None = None,
    after: Run | None = None,
    rule: str | None = None,
    num_params: tuple[int, int] | None = None,
    width: tuple[int, int] | None = None,
    width_exponent: float | None = None,
) -> Rescaled:
    r"""What a weight decay that was good in one run becomes in another, by every rule that applies.

    With f the fraction of each weight that a step removes (lr·λ for decoupled decay), S the steps of the run, E those
    of an epoch, D/N the tokens per parameter:

    $$f \propto \frac1E, \qquad f \propto \frac1S, \qquad f \propto \frac{(D/N)^{0.527}}{S}, \qquad
      f \propto \frac1{\sqrt S}, \qquad f = \text{const}; \qquad
      \lambda \propto \text{width}^e$$

    The rules disagree as soon as more than the learning rate changes, and so do the sources about the width exponent
    e: 1, ½ or 0 with lr ∝ 1/width. All are shown; `rule` or `width_exponent` chooses.

    Args:
        value: the old weight decay: a number, which means a decoupled one, or a decoupled, independent or per-step
            `Decay`.
        before: the run in which it was good.
        after: the run to come. Learning rates are the runs' own peaks.
        rule: "timescale_epochs", "timescale_runs", "tokens_per_parameter", "normalized" or "rotation"; None shows all.
        num_params: parameters of the model before and after, for tokens_per_parameter.
        width: of the model, before and after. Each source's exponent goes with how its learning rate follows the
            width, so that the runs' own learning rates have no say then.
        width_exponent: your own e; None shows all sources.

    Returns:
        A `Rescaled`; its `.value` is None where rules disagree.

    Raises:
        UnitError: nothing that changes, an unknown rule, or one that needs to know more.

    Example:
        >>> import torchdecay as td
        >>> small = td.Run(epochs=10, batch_size=128, num_samples=50_000, lr=1e-3)
        >>> large = td.Run(epochs=10, batch_size=512, num_samples=50_000, lr=1e-3)
        >>> round(td.rescale(0.05, before=small, after=large, rule="timescale_epochs").value, 3)
        0.199

    Reference: How to set AdamW's weight decay as you scale model and dataset size, arXiv 2405.13698; Power Lines,
    arXiv 2505.13738; Decoupled Weight Decay Regularization, arXiv 1711.05101.
    """
    number, form = _number(value)
    if (before is None) is not (after is None):
        raise UnitError("rescale needs both runs.", fix="Give before=td.Run(...) and after=td.Run(...).")
    if before is None and width is None:
        raise UnitError(
            "nothing changes.", fix="Give before= and after= as td.Run(...), or width=(old, new), or all of them."
        )
    if rule is not None:
        check_word(rule, "rule", RULES, error=UnitError)
    if width_exponent is not None and width is None:
        raise UnitError("width_exponent goes with width.", fix="Give width=(old, new) as well.")
    params = (None, None) if num_params is None else _pair(num_params, "num_params")
    versions, left_out = _of_run(number, form, before, after, params, rule, width is not None)
    if width is not None:
        pair = _pair(width, "width")
        if versions and not Rescaled(before=number, form=form, versions=tuple(versions)).agree:
            raise UnitError(
                "the width changes, and so does the run, by rules that disagree.",
                "Every rule with every exponent would be a table that nobody can use.",
                f"Choose one with rule=: {', '.join(one.rule for one in versions)}.",
            )
        start = versions[0].value if versions else number
        versions = _of_width(start, form, pair[1] / pair[0], width_exponent, rule)
    return Rescaled(before=number, form=form, versions=tuple(versions), left_out=tuple(left_out))


def _number(value: float | Decay) -> tuple[float, str]:
    if isinstance(value, Decay):
        form, number, _ = unit_of(value)
        if form not in FORMS:
            raise UnitError(
                f"{value!r} is not rescaled.",
                "The rules are about decay beside the gradient: decoupled, independent or per step.",
                "Under plain SGD a coupled value is a decoupled one: write td.decoupled(...).",
            )
        return number, form
    return check_number(value, "the weight decay", error=UnitError), "decoupled"


def _pair(value: Any, name: str) -> tuple[int, int]:
    try:
        old, new = value
        return check_count(old, f"{name} before"), check_count(new, f"{name} after")
    except (TypeError, ValueError) as error:
        raise UnitError(f"{name} is {value!r}.", fix=f"Give a pair of whole numbers, {name}=(old, new).") from error


def _of_run(
    number: float,
    form: str,
    before: Run | None,
    after: Run | None,
    num_params: tuple[int | None, int | None],
    rule: str | None,
    keep_lr: bool,
) -> tuple[list[Version], list[str]]:
    if before is None or after is None:
        return [], []
    follows_lr = form == "decoupled" and not keep_lr
    lr_factor, also = 1.0, ""
    if follows_lr:
        old, new = peak_lr(before), peak_lr(after)
        if old is None or new is None:
            raise UnitError(
                "a decoupled weight decay acts by lr·λ, and the runs don't both have a learning rate.",
                fix="Write td.Run(..., lr=1e-3) in both, also where it stays the same.",
            )
        lr_factor, also = old / new, ", λ = f/lr"
    facts = [facts_of(run, params) for run, params in zip((before, after), num_params, strict=True)]
    versions, left_out = [], []
    for one in RULES.values() if rule is None else (RULES[rule],):
        missing = [need for need in one.needs if any(need not in known for known in facts)]
        if missing:
            left_out.append(f"{one.name}, which needs {', '.join(missing)} of both runs")
            continue
        value = number * (one.level(facts[1]) / one.level(facts[0])) * lr_factor
        said = f"keeps {one.keeps}"
        versions.append(Version(rule=one.name, formula=one.formula + also, value=value, source=one.source, remark=said))
    if not versions:
        raise UnitError(f"{left_out[0]}.", fix="Give them in td.Run(...), num_params=(old, new).")
    return versions, left_out


def facts_of(run: Run, num_params: int | None) -> dict[str, float]:
    """What a rule may need of a run, as far as it is known."""
    known = {
        "steps": run.num_steps,
        "steps_per_epoch": run.steps_per_epoch,
        "tokens_per_step": run.tokens_per_step,
        "num_params": num_params,
    }
    return {name: float(value) for name, value in known.items() if value is not None}


def _of_width(number: float, form: str, ratio: float, exponent: float | None, rule: str | None) -> list[Version]:
    along = f" after {rule}" if rule is not None else ""
    if exponent is not None:
        exponent = check_number(exponent, "width_exponent", minimum=-10, maximum=10, error=UnitError)
        value = number * ratio**exponent
        formula = f"λ ∝ width^{spelled(exponent)}{along}"
        return [Version(rule="width_exponent", formula=formula, value=value, source=None)]
    versions = []
    for one in WIDTHS:
        # Beside the gradient and without lr, λ is the fraction itself, in which both exponents meet.
        power = one.exponent if form == "decoupled" else one.exponent + one.lr_exponent
        meanwhile = f"lr ∝ width^{spelled(one.lr_exponent)}" if one.lr_exponent else "lr kept"
        formula, value = f"λ ∝ width^{spelled(power)}{along}", number * ratio**power
        said = f"takes for granted {meanwhile}"
        versions.append(Version(rule=one.name, formula=formula, value=value, source=one.source, remark=said))
    return versions
