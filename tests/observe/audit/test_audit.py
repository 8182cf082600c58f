"""`audit` finds every fault of its catalog, stays silent without it, changes nothing, and writes what programs read."""

from __future__ import annotations

import argparse
import copy
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay.errors import ApplyError, PlanError
from torchdecay.findings.finding import Finding
from torchdecay.observe.audit.case import Case
from torchdecay.observe.audit.catalog import CATALOG
from torchdecay.observe.audit.result import Audit

sys.path.insert(0, str(Path(__file__).parent))
from faults import CASES, adamw, attached, mlp, muon_and_adamw, transposed, whole, with_group

from observe.verify import bits


def named(audit: Audit, code: str) -> tuple[str, ...]:
    return tuple(name for finding in audit if finding.code == code for name in finding.names)


def test_every_code_has_its_fault() -> None:
    """A code without a seeded fault is a promise that nobody has tried."""
    assert list(CASES) == list(CATALOG)


@pytest.mark.parametrize("code", CASES)
def test_the_fault_is_found(code: str) -> None:
    """Under its code, with the right parameters and severity, and words for what, why and fix."""
    case = CASES[code]
    found = td.audit(**case.fault())
    assert code in found.codes
    assert named(found, code) == case.names
    finding = next(one for one in found if one.code == code)
    assert finding.severity == case.severity == CATALOG[code].severity
    assert finding.where and finding.what and finding.why and finding.fix
    assert found.ok == all(one.severity == "info" for one in found)


@pytest.mark.parametrize("code", CASES)
def test_without_the_fault_the_code_is_silent(code: str) -> None:
    """The same without the fault raises no such finding, and the check was really made."""
    found = td.audit(**CASES[code].clean())
    assert code not in found.codes
    assert code not in dict(found.skipped)


@pytest.mark.parametrize("code", CASES)
def test_an_audit_changes_nothing(code: str) -> None:
    """Weights, gradients, state, groups, hooks, counters and random numbers are what they were, to the bit."""
    given = CASES[code].fault()
    optimizers = given["optimizer"] if isinstance(given["optimizer"], list) else [given["optimizer"]]
    before = [bits.read(one) for one in optimizers]
    td.audit(**given)
    assert [bits.same(a, bits.read(one)) for a, one in zip(before, optimizers, strict=True)] == [[]] * len(before)


def test_what_the_standard_groups_make_is_clean() -> None:
    """The way that this package recommends has nothing to be said about it."""
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    found = td.audit(**adamw(model))
    assert found.ok and not found.findings


def test_two_optimizers_together_have_the_whole_model() -> None:
    """Matrices under Muon and the rest under AdamW: nothing is in no group."""
    both = muon_and_adamw()
    assert "WD104" not in td.audit(**both).codes
    alone = td.audit(both["optimizer"][0], model=both["model"])
    assert named(alone, "WD104") == ("0.bias", "2.bias")


def test_an_average_of_the_weights_is_not_forgotten() -> None:
    """Nothing trains it, nor what lies below it; beside it a forgotten weight is told of."""
    model = nn.ModuleDict({"net": mlp(), "head": nn.Linear(2, 2, bias=False)})
    model["ema"] = optim.swa_utils.AveragedModel(model["net"])
    optimizer = optim.AdamW(model["net"].parameters(), lr=1e-3)
    model["net"](torch.ones(1, model["net"][0].in_features)).sum().backward()
    assert named(td.audit(optimizer, model=model), "WD104") == ("head.weight",)


def test_optimizers_are_told_apart() -> None:
    """With several, a finding says which."""
    both = muon_and_adamw()
    both["optimizer"][1].param_groups[0]["weight_decay"] = -1.0
    assert [one.where for one in td.audit(**both) if one.code == "WD301"] == ["AdamW 2, group 0"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, "0.1", None, True])
def test_what_is_no_weight_decay_is_found_whatever_it_is(value: object) -> None:
    """torch checks none of these per group."""
    assert "WD301" in td.audit(**with_group(weight_decay=value)).codes


@pytest.mark.parametrize("lr", ["0.1", float("nan"), None])
def test_an_unusable_learning_rate_stops_no_audit(lr: object) -> None:
    """What else there is to say is still said."""
    made = with_group(lr=lr, weight_decay=-1.0)
    assert "WD301" in td.audit(**made, run=td.Run(steps=10)).codes


@pytest.mark.parametrize(("key", "found"), [("wd", True), ("weight_deacy", True), ("lrs", True), ("stage", False)])
def test_keys_that_torch_ignores(key: str, found: bool) -> None:
    """Misspelled keys and other libraries' words are found; a user's own note is not."""
    assert ("WD201" in td.audit(**with_group(**{key: 0.1})).codes) == found


def test_weight_decay_where_there_is_none() -> None:
    """Rprop takes the key and does nothing with it; so nothing decays either."""
    model = mlp()
    optimizer = optim.Rprop([{"params": list(model.parameters()), "weight_decay": 0.1}])
    assert td.audit(optimizer, model=model).codes == ("WD201",)


def test_the_peak_of_the_schedule_counts() -> None:
    """lr x weight_decay is harmless now and above 1 at the peak."""
    made = adamw(mlp(), wd=30.0, lr=1e-3)
    run = td.Run(steps=10, lr_schedule=lambda step: 50.0 if step == 7 else 1.0)
    found = next(one for one in td.audit(**made, run=run) if one.code == "WD303")
    assert "at step 7 of the run" in found.what
    assert "WD303" not in td.audit(**made).codes


def test_coupled_decay_of_sgd_flips_too() -> None:
    """For plain SGD coupled decay is the same fraction."""
    model = mlp()
    assert "WD303" in td.audit(optim.SGD(model.parameters(), lr=1.0, weight_decay=3.0)).codes


def test_momentum_multiplies_a_coupled_pull() -> None:
    """lr x weight_decay is 0.005, ten times as much once momentum has settled."""
    model = mlp()
    assert "WD302" in td.audit(optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.05)).codes
    assert "WD302" not in td.audit(optim.SGD(model.parameters(), lr=0.1, weight_decay=0.05)).codes


def test_a_warm_up_from_nothing_is_not_rounded_away() -> None:
    """bf16 decay is judged at the peak: at the first steps of a warm-up any decay is small."""
    made = adamw(mlp(torch.bfloat16), wd=1.0, lr=1e-2)
    optim.lr_scheduler.LinearLR(made["optimizer"], start_factor=1e-3)
    assert "WD304" not in td.audit(**made).codes


def test_a_hook_pays_what_rounds_away() -> None:
    """Attached, the same decay on bf16 weights is exact, and no fault."""
    model = mlp(torch.bfloat16)
    plan = td.plan(model, td.decoupled(0.1))
    optimizer = optim.AdamW(plan.param_groups(model), lr=1e-3)
    td.attach(optimizer, plan)
    assert "WD304" not in td.audit(optimizer, model=model).codes


@pytest.mark.parametrize(
    ("weight", "gradient", "wrong"),
    [
        ("plain", "plain", False),
        ("channels_last", "channels_last", False),
        ("plain", "channels_last", True),
        ("gaps", "gaps", True),
    ],
)
def test_strides_are_a_fault_exactly_when_the_fused_step_is_wrong(weight: str, gradient: str, wrong: bool) -> None:
    """Held against torch itself: a fused step beside one of the loop, from the same bits."""

    def laid_out(values: torch.Tensor, how: str) -> torch.Tensor:
        if how == "channels_last":
            return values.clone(memory_format=torch.channels_last)
        if how == "gaps":
            return torch.zeros(2, 3, 4, 8)[..., :4].copy_(values)
        return values.clone()

    w, g = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    ends = []
    for fused in (False, True):
        param = nn.Parameter(laid_out(w, weight))
        param.grad = laid_out(g, gradient)
        optimizer = optim.AdamW([param], lr=0.1, foreach=False, fused=fused)
        assert ("WD209" in td.audit(optimizer).codes) == (wrong and fused)
        optimizer.step()
        ends.append(param.detach().clone())
    # Fused and loop differ in the last bit; a step of lr 0.1 gone astray is a fifth.
    assert torch.allclose(*ends, atol=1e-6) == (not wrong)


def test_only_fused_optimizers_read_strides_wrongly() -> None:
    """The loop is right whatever the strides."""
    assert "WD209" not in td.audit(**transposed(fused=False)).codes


def test_a_model_s_own_wish_counts() -> None:
    """What no_weight_decay() names and decays all the same is found, whatever its role."""

    class Wishing(nn.Linear):
        def no_weight_decay(self) -> set[str]:
            return {"weight"}

    assert named(td.audit(**whole(Wishing(3, 3, bias=False))), "WD101") == ("weight",)


def test_a_spared_tie_is_no_forgotten_weight() -> None:
    """A head tied to a spared embedding is spared on purpose."""
    from faults import Tagger

    assert "WD103" not in td.audit(**adamw(nn.Sequential(Tagger(tied=True), nn.Linear(10, 2)))).codes


def test_a_plan_needs_names_to_be_held_against() -> None:
    """Without names nothing could be compared, and silence would say that all is well."""
    model = mlp()
    with pytest.raises(ApplyError, match="no param_names"):
        td.audit(optim.AdamW(model.parameters()), plan=td.plan(model, 0.1))


def test_a_row_of_the_plan_that_no_optimizer_has() -> None:
    """Also without the model at hand."""
    model = mlp()
    plan = td.plan(model, 0.1)
    held = plan.param_groups(model)[:1]
    found = td.audit(optim.AdamW(held), plan=plan)
    assert named(found, "WD208") == ("0.bias", "2.bias")


def test_another_plan_than_the_attached_one() -> None:
    """A plan given beside an attached one is held against what is attached."""
    made = attached(td.decoupled(0.1))
    assert "WD208" in td.audit(**made, plan=td.plan(made["model"], td.decoupled(0.2))).codes
    assert "WD208" not in td.audit(**made, plan=td.plan(made["model"], td.decoupled(0.1))).codes


def test_a_handle_knows_its_names() -> None:
    """Attached with model=, and audited without: the plan's rows are still found."""
    model = mlp()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    td.attach(optimizer, td.plan(model, td.decoupled(0.5)), model=model)
    assert named(td.audit(optimizer), "WD302") == ("0.weight", "2.weight")


def test_a_scheduler_of_another_optimizer_says_nothing_here() -> None:
    """With two optimizers and the scheduler of one, the other's learning rates are not known."""
    both = muon_and_adamw()
    schedule = optim.lr_scheduler.LambdaLR(both["optimizer"][0], lambda step: 1.0)
    case = Case(both["optimizer"], None, None, td.Run(steps=3, lr_schedule=schedule), None)
    assert [case.curve(group.optimizer, group.index) for group in case.groups] == [[1e-3] * 3, None]


def test_wrappers_of_other_libraries_are_seen_through() -> None:
    """accelerate and Lightning hand out an object that holds the optimizer and shares its groups."""

    class Wrapper:
        def __init__(self, optimizer: optim.Optimizer) -> None:
            self.optimizer = optimizer

        @property
        def param_groups(self) -> list[dict[str, object]]:
            return self.optimizer.param_groups

        def step(self) -> None:
            self.optimizer.step()

    assert "WD401" in td.audit(Wrapper(optim.Adam(mlp().parameters(), weight_decay=0.1))).codes


def test_only_optimizers_are_audited() -> None:
    """Something that is no optimizer is refused."""
    with pytest.raises(ApplyError, match="not an optimizer"):
        td.audit(mlp())


# What comes out


def test_worst_first() -> None:
    """Errors, then warnings, then notes."""
    order = ["error", "warning", "info"]
    model = nn.Sequential(nn.Embedding(3, 2), nn.LayerNorm(2))
    many = td.audit(optim.AdamW([{"params": list(model.parameters()), "wd": 1}], weight_decay=0.1), model=model)
    severities = [order.index(one.severity) for one in many]
    assert severities == sorted(severities) and len(set(severities)) == 3


def test_select_and_ignore() -> None:
    """By code and by prefix; an unknown one is a mistake with the nearest codes."""
    model = nn.Sequential(nn.Embedding(3, 2), nn.LayerNorm(2))
    optimizer = optim.Adam(model.parameters(), weight_decay=0.1)
    assert td.audit(optimizer, model=model).codes == ("WD101", "WD401", "WD102")
    assert td.audit(optimizer, model=model, select=["WD4"]).codes == ("WD401",)
    assert td.audit(optimizer, model=model, select="WD1", ignore="WD102").codes == ("WD101",)
    assert td.audit(optimizer, model=model).filter(ignore=["WD1"]).codes == ("WD401",)
    assert {code for code, _ in td.audit(optimizer, select=["WD1"]).skipped} <= {c for c in CATALOG if c < "WD2"}
    for wrong in ("WD999", "wd101", ""):
        with pytest.raises(PlanError, match="no finding has the code"):
            td.audit(optimizer, select=[wrong])


def test_what_was_not_looked_into_is_said() -> None:
    """Without the model half of the checks can't be made, and the text says which."""
    found = td.audit(optim.AdamW(mlp().parameters()))
    assert ("WD104", "model=") in found.skipped and ("WD305", "run=") in found.skipped
    assert "not looked into: WD104 (needs model=)" in str(found)


HOSTILE = "a\n::error::b%0A\r\x1b[31m\"'<b>,: 中\u202e"


def hostile() -> Audit:
    model = nn.Module()
    model.add_module(HOSTILE, nn.Linear(2, 2))
    optimizer = optim.AdamW([{"params": [*model.parameters()], f"weight_deca{HOSTILE[:2]}": HOSTILE}])
    return td.audit(optimizer, model=model)


def test_hostile_names_stay_inside_their_json() -> None:
    """Any name comes back as it was."""
    model = nn.Module()
    model.add_module(HOSTILE, nn.Linear(2, 2))
    found = td.audit(optim.AdamW(model.parameters()), model=model)
    body = json.loads(found.to_json())
    assert body["format"] == "torchdecay.audit" and body["version"] == 1 and body["ok"] is False
    assert body["findings"][0]["names"] == [f"{HOSTILE}.bias"]
    assert body["findings"][0].keys() == {"code", "severity", "where", "names", "what", "why", "fix", "place", "edits"}


def test_hostile_names_make_no_second_annotation() -> None:
    """One line per finding, which begins with its own command, whatever parameters and keys are called."""
    text = hostile().to_github()
    lines = text.split("\n")
    assert len(lines) == len(hostile()) and "\r" not in text and "\x1b" not in text
    for line, finding in zip(lines, hostile(), strict=True):
        command = {"error": "error", "warning": "warning", "info": "notice"}[finding.severity]
        assert line.startswith(f"::{command} title={finding.code} ")


def test_hostile_names_stay_off_the_terminal() -> None:
    """Control characters are escaped in the text."""
    text = str(hostile())
    assert "\x1b" not in text and "\r" not in text and "\u202e" not in text


def test_counts_are_grammatical() -> None:
    """One error, two errors."""
    assert "1 error, 0 warnings, 0 notes" in str(td.audit(**with_group(weight_decay=-1.0)))


def test_why_and_fix_stand_once_per_code() -> None:
    """Three groups with the same fault make three lines and one explanation."""
    model = nn.Sequential(*(nn.LayerNorm(2) for _ in range(3)))
    groups = [{"params": list(layer.parameters()), "lr": 0.1 * (i + 1)} for i, layer in enumerate(model)]
    text = str(td.audit(optim.AdamW(groups, weight_decay=0.01), model=model, select="WD101"))
    assert text.count("WD101 warning") == 3 and text.count(CATALOG["WD101"].fix) == 1


def test_findings_are_values() -> None:
    """Frozen, comparable, a sequence."""
    made = adamw(mlp(), 50.0)
    first, again = td.audit(**made), td.audit(**made)
    assert first == again and list(first) == list(first.findings) and first[0] == first[:1][0]
    with pytest.raises(AttributeError):
        first[0].code = "TD000"  # type: ignore[misc]
    assert isinstance(first[0], Finding)


def test_alike_findings_are_one_with_all_names() -> None:
    """A thousand norms make one line, not a thousand."""
    model = nn.ModuleList(nn.LayerNorm(2) for _ in range(50))
    found = td.audit(**whole(model), select=["WD101"])
    assert len(found) == 1 and len(found[0].names) == 100
    assert "(and 95 more)" in str(found)


def test_meta_models_can_be_audited() -> None:
    """Without memory for weights."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    assert td.audit(**whole(model)).codes == ("WD101",)


def test_a_deep_copy_of_a_plain_optimizer_is_no_lost_hook() -> None:
    """Only what was attached can lose its hooks."""
    made = adamw(mlp())
    assert "WD205" not in td.audit(copy.deepcopy(made["optimizer"])).codes


@pytest.mark.parametrize(
    "key",
    [
        *(
            "w_decay",
            "wdecay",
            "WD",
            "l2_reg",
            "l2_lambda",
            "weight_decay_coeff",
            "LR",
            "epsilon",
            "weight-decay",
            "weightDecay",
            "Weight_Decay",
        ),
        *("weight_decay_", "weight_decay_rate", "l2_penalty", "learning_rate", "beta", "momentumm", "Betas"),
    ],
)
def test_plain_slips_are_found(key: str) -> None:
    """In other letters, or with a word less."""
    assert "WD201" in td.audit(**with_group(**{key: 0.1})).codes


@pytest.mark.parametrize(
    "key",
    [
        *("initial_weight_decay", "weight_decay_mult", "weight_decay_end", "max_weight_decay", "momentum_end"),
        *(
            "base_lr",
            "lr_decay",
            "layer_decay",
            "wd_mult",
            "decay_mult",
            "warmup_momentum",
            "num_warmup_steps",
            "eps_end",
        ),
    ],
)
def test_keys_of_a_schedule_of_ones_own_are_no_slips(key: str) -> None:
    """A known key with more words around it is read by somebody else."""
    assert "WD201" not in td.audit(**with_group(**{key: 0.1})).codes


def test_one_hundredth_is_not_more_than_one_hundredth() -> None:
    """0.1 times 0.1 is above 0.01 in floats."""
    model = nn.Linear(3, 2)
    assert "WD302" not in td.audit(optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)).codes


@pytest.mark.parametrize(
    "how", ["by the constructor", "by another group", "by the plan", "by hparams", "by args", "by nobody"]
)
def test_where_nothing_decays_it_counts_who_asked(how: str) -> None:
    """A number that never reached a weight is a warning; where none was asked for, it is a note."""
    model = mlp()
    if how == "by hparams":
        model._hparams = {"lr": 1e-3, "weight_decay": 0.1}
    elif how == "by args":
        model[0].args = argparse.Namespace(weight_decay=0.1)
    asked = {"weight_decay": 0.1 if how == "by the constructor" else 0.0}
    groups = [{"params": [*model.parameters()], "weight_decay": 0.0}]
    if how == "by another group":
        groups.append({"params": [], "weight_decay": 0.1})
    plan = td.plan(model, 0.1) if how == "by the plan" else None
    found = td.audit(optim.AdamW(groups, **asked), model=model, plan=plan, select=["WD111"])
    assert [one.severity for one in found] == ["info" if how == "by nobody" else "warning"]


@pytest.mark.parametrize(
    "how", ["one weight decays", "torch's own default", "a plan without decay", "a penalty", "ASGD's own"]
)
def test_nothing_decays_is_said_of_nothing_else(how: str) -> None:
    """Torch's own 0.01 in the constructor was not asked for by anyone, and a penalty shrinks too."""
    model = mlp()
    groups = [{"params": [*model.parameters()], "weight_decay": 0.0}]
    optimizer, loss = optim.AdamW(groups), None
    if how == "one weight decays":
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2, 2))]})
        model.more = nn.Linear(2, 2, bias=False)
        model.more.weight = optimizer.param_groups[1]["params"][0]
    elif how == "a plan without decay":
        td.attach(optimizer, td.plan(model, 0.0), model=model)
    elif how == "a penalty":
        loss = model(torch.ones(1, 4)).sum() + td.penalty(model, l2=0.1)
    elif how == "ASGD's own":
        optimizer = optim.ASGD(model.parameters())
    found = td.audit(optimizer, model=model, loss=loss, select=["WD111"])
    silent = how in ("one weight decays", "a penalty", "ASGD's own")
    assert [one.severity for one in found] == ([] if silent else ["info"])


def test_an_explicit_rule_is_followed() -> None:
    """Decay on the scales of norms (slimming), by a plan at hand or attached: nobody is warned of it."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    rules = [td.rule(td.role("norm") & "*.weight", td.native(1e-3)), *td.STANDARD]
    plan = td.plan(model, 1e-4, rules=rules)
    optimizer = optim.SGD(plan.param_groups(model), lr=0.1)
    assert "WD101" in td.audit(optimizer, model=model).codes
    assert "WD101" not in td.audit(optimizer, model=model, plan=plan).codes
    td.attach(optimizer, plan)
    assert "WD101" not in td.audit(optimizer, model=model).codes
    default = optim.SGD(model.parameters(), lr=0.1)
    td.attach(default, td.plan(model, td.coupled(1e-4), rules=td.policies.torch), model=model)
    assert "WD101" in td.audit(default, model=model).codes


def test_a_norm_that_is_used_as_one_plus_w_is_not_weakened() -> None:
    """Gemma's: at 0 it scales nothing."""

    class OnePlus(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * (1.0 + self.weight.float())

    class Helped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain, self.shift = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(4))

        def scale(self) -> torch.Tensor:
            gain = self.gain.float()
            return torch.add(gain, 1)

        def forward(this, x: torch.Tensor) -> torch.Tensor:
            return x / x.std(-1, keepdim=True) * this.scale() + this.shift + 1.0

    model = nn.Sequential(nn.Linear(4, 4, bias=False), OnePlus(), nn.LayerNorm(4), Helped())
    assert named(td.audit(**whole(model)), "WD101") == ("2.weight", "2.bias", "3.shift")


@pytest.mark.parametrize("via", ["auto", "hook"])
def test_a_frozen_weight_with_an_old_gradient_decays_natively_only(via: str) -> None:
    """A plan's hook passes over it, and the audit says what a step does."""
    model = mlp()
    optimizer = optim.AdamW(model.parameters(), lr=0.1)
    td.attach(optimizer, td.plan(model, td.decoupled(0.1)), model=model, via=via)
    model(torch.ones(1, 4)).sum().backward()
    model[0].weight.requires_grad_(False)
    found = next(one for one in td.audit(optimizer, model=model) if one.code == "WD108")
    before = model[0].weight.detach().clone()
    model[0].weight.grad.zero_()
    optimizer.step()
    assert ("decays by" in found.what) == (not torch.equal(before, model[0].weight))


def test_without_a_model_shapes_are_guessed_from() -> None:
    """What has one dimension beside matrices; a plan's rows are known, and a vector by itself is no bias."""
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    found = td.audit(optim.AdamW(model.parameters(), weight_decay=0.1))
    assert named(found, "WD101") == ("parameter 1", "parameter 2", "parameter 3") and not found.ok
    assert "by its shape" in found[0].what
    assert td.audit(optim.AdamW(td.param_groups(model, 0.1))).ok
    assert td.audit(optim.AdamW([nn.Parameter(torch.ones(5))], weight_decay=0.1)).ok


def test_the_model_of_an_attached_plan_is_looked_at() -> None:
    """It need not be given twice."""
    model = mlp()
    optimizer = optim.AdamW(model[0].parameters())
    td.attach(optimizer, td.plan(model[0], 0.1), model=model[0])
    assert "WD104" not in dict(td.audit(optimizer).skipped)


def test_several_models_that_train_together() -> None:
    """A loss with parameters, two networks: a list of them has all, and a name that two use says whose it is."""
    first, second = nn.Linear(4, 4), nn.Linear(4, 2)
    loss = nn.ParameterDict({"log_vars": nn.Parameter(torch.zeros(3))})
    params = [*first.parameters(), *second.parameters(), *loss.parameters()]
    optimizer = optim.AdamW(params, weight_decay=0.1)
    found = td.audit(optimizer, model=(one for one in (first, second, loss)))
    assert "WD105" not in found.codes and "WD104" not in found.codes
    assert set(named(found, "WD101")) >= {"bias", "model 2.bias"}
    assert "WD104" in td.audit(optim.AdamW(first.parameters()), model=[first, second]).codes


def test_optimizers_of_single_layers_are_looked_at_behind_their_stand_in() -> None:
    """As transformers' layer-wise GaLore makes them: the stand-in holds a tensor of nobody's."""

    class StandIn(optim.Optimizer):
        def __init__(self, optimizer_dict: dict[nn.Parameter, optim.Optimizer]) -> None:
            self.optimizer_dict = optimizer_dict
            super().__init__([torch.randn(1, 1)], {"lr": 1e-3})

        def step(self, closure: object = None) -> None:
            pass

    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(6)))
    of_layers = {param: optim.AdamW([param], weight_decay=0.1) for param in model.parameters()}
    found = td.audit(StandIn(of_layers), model=model)
    assert found.codes == ("WD101",) and len(found) == 1 and len(found[0].names) == 6


def test_what_is_stepped_in_backward_is_not_forgotten() -> None:
    """A hook at the gradient takes the step; the optimizer that is at hand has nothing of the model."""
    model = mlp()
    for param in model.parameters():
        param.register_post_accumulate_grad_hook(lambda param: None)
    found = td.audit(optim.SGD([nn.Parameter(torch.zeros(1, 1))], lr=0.1), model=model)
    assert "error" not in {one.severity for one in found}


class Stranger(optim.Optimizer):
    """AdamW of another library."""

    def __init__(self, params: object, **options: object) -> None:
        super().__init__(params, {"lr": 1e-3, "weight_decay": 0.1, **options})

    def step(self, closure: object = None) -> None:
        pass


@pytest.mark.parametrize(("options", "said"), [({}, True), ({"kahan_sum": True}, False), ({"lr": 0.1}, False)])
def test_bf16_under_an_optimizer_that_nobody_knows(options: dict[str, object], said: bool) -> None:
    """Small decays are a warning, unless an option says that what is rounded away is kept."""
    optimizer = Stranger(mlp(torch.bfloat16).parameters(), **options)
    found = [one for one in td.audit(optimizer) if one.code == "WD304"]
    assert [one.severity for one in found] == ["warning"] * said


@pytest.mark.parametrize("gradient", [0.1, 1e-7, None])
def test_a_coupled_decay_that_the_gradient_swallows(gradient: float | None) -> None:
    """In bf16 a sum of 0.1 and 0.00005 is 0.1; how much arrives is what the gradient at hand shows."""
    weight = nn.Parameter(torch.full((8, 8), 0.5, dtype=torch.bfloat16))
    weight.grad = None if gradient is None else torch.full_like(weight, gradient)
    found = td.audit(optim.SGD([weight], lr=0.1, weight_decay=1e-4), select=["WD304"])
    assert [one.what.startswith("0 %") for one in found] == [gradient is not None]
    assert found.ok is (gradient is None)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("scale", [0.0, 1e-4, 1e-3, 1e-2, 1e-1])
def test_a_coupled_decay_is_lost_where_gradients_are_too_small_to_move_the_weight(
    scale: float, momentum: float
) -> None:
    """In bf16, of plain SGD: told exactly where less than half arrives, against the same steps without decay."""
    torch.manual_seed(0)
    start = nn.Linear(64, 64, bias=False).bfloat16().weight.detach()
    gradients = [(torch.randn(64, 64) * scale).bfloat16() for _ in range(50)]
    audited, *ends = nn.Parameter(start), nn.Parameter(start.clone()), nn.Parameter(start.clone())
    for weight, wd in zip(ends, (0.1, 0.0), strict=True):
        optimizer = optim.SGD([weight], lr=0.01, weight_decay=wd)
        for weight.grad in gradients:
            optimizer.step()
    taken = (ends[1] - ends[0]).detach().double()
    share = float((taken * start).sum() / (start.double().square() * (1 - 0.999**50)).sum())
    audited.grad = gradients[0]
    found = td.audit(optim.SGD([audited], lr=0.01, weight_decay=0.1, momentum=momentum), select=["WD304"])
    assert [one.severity for one in found] == ["error"] * (share < 0.5 and not momentum)


@pytest.mark.parametrize("multiple", [0.1, 0.24, 0.26, 0.49])
def test_what_rounding_may_take_is_no_error_above_the_least_that_shows(multiple: float) -> None:
    """Between a quarter and half of eps a step moves some weights, by a whole unit, and others not at all."""
    eps = torch.finfo(torch.bfloat16).eps
    weight = nn.Parameter(torch.linspace(1.0, 2.0, 99).bfloat16())
    start = weight.detach().clone()
    optimizer = optim.AdamW([weight], lr=1.0, weight_decay=multiple * eps)
    (found,) = td.audit(optimizer, select=["WD304"]).findings
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    moved = bool((weight != start).any())
    assert found.severity == ("warning" if moved else "error")
    assert ("between none and 0.0078" in found.what) is moved
    assert float((1 - weight / start).detach().max()) <= eps


@pytest.mark.parametrize("multiple", [0.6, 0.99, 1.01, 2.0])
def test_rounding_is_told_exactly_where_weights_get_stuck(multiple: float) -> None:
    """Native decay in bf16, without gradients: below half of eps every weight stops within its binade."""
    weight = nn.Parameter(torch.linspace(1.0, 2.0, 99).bfloat16())
    optimizer = optim.AdamW([weight], lr=1.0, weight_decay=multiple * torch.finfo(torch.bfloat16).eps / 2)
    weight.grad = torch.zeros_like(weight)
    said = "WD304" in td.audit(optimizer).codes
    for _ in range(2000):
        optimizer.step()
    assert said == bool((weight > 0.4).any())


@pytest.mark.parametrize(
    ("code", "wd", "lr", "run"),
    [
        ("WD302", 0.07, 1 / 7, None),
        ("WD305", 1 / 0.3, 0.3 / 7, td.Run(steps=70, batch_size=1, num_samples=7)),
        ("WD306", 1 / 0.3, 0.3 / 7, td.Run(steps=7)),
    ],
)
def test_what_is_just_at_a_bound_is_not_beyond_it(code: str, wd: float, lr: float, run: td.Run | None) -> None:
    """Products of fractions are off in their last digit."""
    for wobble in (1 - 1e-15, 1.0, 1 + 1e-15):
        optimizer = optim.SGD(nn.Linear(3, 2, bias=False).parameters(), lr=lr, weight_decay=wd * wobble)
        assert code not in td.audit(optimizer, run=run).codes


@pytest.mark.parametrize(("steps", "severity"), [(100, "info"), (10, "warning")])
def test_a_run_that_is_short_for_its_decay_says_what_it_takes(steps: int, severity: str) -> None:
    """1 - 0.999^100 is 9.5 %, so a time scale of 500 takes 18.1 %."""
    optimizer = optim.AdamW(nn.Linear(3, 2, bias=False).parameters(), lr=0.1, weight_decay=0.02)
    found = next(one for one in td.audit(optimizer, run=td.Run(steps=steps)) if one.code == "WD306")
    assert found.severity == severity
    assert f"takes {100 * (1 - 0.998**steps):.3g} % of a weight" in found.what


@pytest.mark.parametrize(
    "what", ["a loss with its own", "master copies", "flat master copies", "another model", "the model made anew"]
)
def test_parameters_beside_the_model_are_an_error_only_where_none_is_its_own(what: str) -> None:
    """A loss's own weights and float32 copies of low-precision ones are meant; an optimizer of another model is not."""
    model = nn.Linear(4, 3)
    params = [*model.parameters(), nn.Parameter(torch.zeros(3))]
    if what == "master copies":
        model = model.bfloat16()
        params = [nn.Parameter(param.detach().float()) for param in model.parameters()]
    elif what == "flat master copies":
        model = model.bfloat16()
        params = [nn.Parameter(nn.utils.parameters_to_vector(model.parameters()).detach().float())]
    elif what in ("another model", "the model made anew"):
        params = list(nn.Linear(4, 3 if what == "the model made anew" else 2).parameters())
    found = td.audit(optim.AdamW(params), model=model, select=["WD104", "WD105"])
    wrong = what in ("another model", "the model made anew")
    assert {one.severity for one in found} == ({"error"} if wrong else {"info"})
