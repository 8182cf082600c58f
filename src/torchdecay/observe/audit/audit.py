"""`audit`: everything that is wrong, or worth knowing, about the decay of a model under its optimizers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from torchdecay.apply.handle import handle_of
from torchdecay.errors import PlanError
from torchdecay.findings.choosing import Ignore, is_wanted, patterns_of, prefixes, spare, whole_codes
from torchdecay.findings.finding import by_severity
from torchdecay.findings.rule import Severity
from torchdecay.observe.audit.case import Case, cuts_apart
from torchdecay.observe.audit.catalog import CATALOG
from torchdecay.observe.audit.check import CHECKS
from torchdecay.observe.audit.checks import interplay, magnitude, selection, wiring
from torchdecay.observe.audit.checks.selection import nearest_recipe
from torchdecay.observe.audit.result import Audit
from torchdecay.observe.groups import optimizers_of
from torchdecay.observe.run import Run
from torchdecay.observe.verify.result import Verification
from torchdecay.plans.plan import Plan
from torchdecay.plans.policies import named
from torchdecay.plans.rules import Rule
from torchdecay.plans.tree import ModelLike, one_model

# Importing the modules is what fills CHECKS.
assert {check.code for check in CHECKS} == set(CATALOG), (interplay, magnitude, selection, wiring)

_ABOUT_WHO = ("WD101", "WD102", "WD103", "WD107")


def audit(
    optimizer: Any,
    *,
    model: ModelLike = None,
    plan: Plan | None = None,
    run: Run | None = None,
    loss: Tensor | None = None,
    select: Iterable[str] = (),
    ignore: Ignore = (),
    severity: Mapping[str, Severity] | None = None,
    recipe: str | Iterable[Rule] | None = None,
    verified: Verification | None = None,
) -> Audit:
    """Look for everything that can be wrong with weight decay, without taking a step or changing anything.

    Each finding has a stable code: WD1xx says who decays, WD2xx whether it happens, WD3xx how hard, WD4xx what it
    does together with the rest. What `torchdecay.verify` measures by steps, this reads from what is there. It asks no
    other process, so that one of many may call it; what it can't look into, of weights that are cut over processes,
    is in `skipped`.

    Args:
        optimizer: an optimizer or a list of them; with Muon and AdamW side by side, give both.
        model: the model, or a list or dict of models that are trained together, a loss with parameters among them;
            half of the checks need it. None takes that of an attached plan, and without one guesses from shapes which
            parameters are biases and norms. Run a backward pass before, and idle rows, missing gradients and
            scale-invariant weights are found too.
        plan: what should happen, where it is not attached.
        run: how long the training is, for time scales and the peak of the schedule.
        loss: a loss with its graph, to find a penalty in it.
        select: codes, or prefixes such as "WD3"; all by default.
        ignore: codes or prefixes to leave out; or for each globs of parameters that are meant so,
            {"WD101": ["*.gate.*"]}.
        severity: code or prefix → "error", "warning" or "info", in place of the catalog's.
        recipe: the name of a policy, "moonlight", or rules: who decays is judged against it in place of STANDARD.
        verified: what `td.verify` found of the same optimizers: of classes that nobody knows it is what is judged.

    Returns:
        An `Audit`: findings with stable codes, worst first; `.ok` when there is neither error nor warning; prints;
        `.to_json()`, `.to_github()`, `.to_sarif()`; `.without(baseline)`.

    Raises:
        ApplyError: something that is no optimizer; no names to find a plan's rows by; a loss whose graph was freed.
        PlanError: an unknown code, severity or recipe, a recipe without a model, or a model that can't be read.
        UnitError: a run that says too little for its schedule.

    Example:
        >>> import torch, torchdecay as td
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
        >>> found = td.audit(torch.optim.AdamW(model.parameters(), weight_decay=0.1), model=model)
        >>> found.codes, found.ok
        (('WD101',), False)
    """
    optimizers = [each for one in optimizers_of(optimizer) for each in _layer_wise(one)]
    if model is None:
        attached = [one.model for one in map(handle_of, optimizers) if one is not None and one.model is not None]
        model = list({id(one): one for one in attached}.values())
    case = Case(optimizers, one_model(model), plan, run, loss, None if recipe is None else named(recipe), verified)
    if case.recipe is not None and case.model is None:
        raise PlanError("recipe= needs model=.", "A recipe goes by names and roles.", "Give the model too.")
    chosen, meant = prefixes(select, CATALOG), patterns_of(ignore, CATALOG)
    left_out = whole_codes(meant)
    wanted = [check for check in CHECKS if is_wanted(check.code, chosen, left_out)]
    found = Audit(tuple(spare((one for check in wanted for one in check.findings(case)), meant)))
    # A recipe that nobody named is not missing.
    unable = [check for check in wanted if not check.is_able(case) and check.needs != "recipe"]
    skipped = [(one.code, f"{one.needs}=" + ("; guessed from shapes" if one.guess else "")) for one in unable]
    cut = sum(1 for member in case.members if cuts_apart(member.param))
    if cut:
        what = f"whole gradients; of {cut} weights this process has a part"
        skipped += [(one.code, what) for one in wanted if one.reads and one.is_able(case)]
    told = by_severity(found.with_severity(severity or {}).findings)
    return Audit(told, tuple(skipped), nearest_recipe(case) if any(one.code in _ABOUT_WHO for one in told) else "")


def _layer_wise(optimizer: Any) -> list[Any]:
    """The optimizers that take the steps behind one that stands in for them: one for each parameter, in backward."""
    behind = getattr(optimizer, "optimizer_dict", None) or {}
    return list({id(one): one for one in behind.values()}.values()) or [optimizer]
