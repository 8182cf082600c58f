"""`rescale`: every rule by its formula, and disagreement told instead of hidden."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

import torchdecay as td
from torchdecay.errors import UnitError
from torchdecay.observe.units.scaling_rules import RULES, WIDTHS

SMALL = td.Run(epochs=10, batch_size=100, num_samples=10_000, lr=1e-3)


def run(**changes: Any) -> td.Run:
    return td.Run(**({"epochs": 10, "batch_size": 100, "num_samples": 10_000, "lr": 1e-3} | changes))


def values(made: td.Rescaled) -> dict[str, float]:
    return {one.rule: one.value for one in made.versions}


def test_another_learning_rate_is_no_dispute() -> None:
    """All rules keep lr·λ, so that there is one value."""
    made = td.rescale(0.06, before=SMALL, after=run(lr=3e-3))
    assert made.agree and made.value == pytest.approx(0.02) and len(made.versions) == 4
    assert "becomes decoupled(0.02) by all 4 rules" in str(made)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        # batch x 4: steps and steps per epoch / 4
        ({"batch_size": 400}, {"timescale_epochs": 4, "timescale_runs": 4, "normalized": 2, "rotation": 1}),
        # data x 4: an epoch and the run are 4 times as long
        ({"num_samples": 40_000}, {"timescale_epochs": 1 / 4, "timescale_runs": 1 / 4, "normalized": 1 / 2,
                                   "rotation": 1}),
        # run x 4: an epoch stays what it is
        ({"epochs": 40}, {"timescale_epochs": 1, "timescale_runs": 1 / 4, "normalized": 1 / 2, "rotation": 1}),
        # batch x 4 and lr x 2
        ({"batch_size": 400, "lr": 2e-3}, {"timescale_epochs": 2, "timescale_runs": 2, "normalized": 1,
                                           "rotation": 1 / 2}),
    ],
    ids=["batch", "data", "epochs", "batch and lr"],
)  # fmt: skip
def test_each_rule_follows_its_formula(after: dict[str, Any], expected: dict[str, float]) -> None:
    """Factors by hand, from the printed formulas."""
    made = td.rescale(0.1, before=SMALL, after=run(**after))
    assert values(made) == pytest.approx({rule: 0.1 * factor for rule, factor in expected.items()})
    assert made.value is None and not made.agree
    assert "the sources disagree" in str(made) and "tokens_per_parameter, which needs" in str(made)
    for name in expected:
        one = td.rescale(0.1, before=SMALL, after=run(**after), rule=name)
        assert one.value == pytest.approx(0.1 * expected[name]) and len(one.versions) == 1


def test_every_version_names_its_source() -> None:
    """With a paper or a code base that can be looked up."""
    made = td.rescale(0.1, before=SMALL, after=run(batch_size=400))
    wide = td.rescale(0.1, width=(256, 512))
    for one in (*made.versions, *wide.versions):
        assert one.source is not None and str(one.source) in str(made) + str(wide) and one.formula and one.remark
        assert one.source.where.startswith(("arXiv 2", "arXiv 1", "github.com/"))
    assert {one.rule for one in wide.versions} == {one.name for one in WIDTHS} and set(values(made)) <= set(RULES)


def test_tokens_per_parameter_needs_the_models_size() -> None:
    """Four times the tokens for the same model: (4^0.527)/4 of the fraction."""
    before = td.Run(steps=1000, batch_size=8, tokens_per_sample=512, lr=1e-3)
    after = td.Run(steps=4000, batch_size=8, tokens_per_sample=512, lr=1e-3)
    made = td.rescale(0.1, before=before, after=after, num_params=(10**6, 10**6), rule="tokens_per_parameter")
    assert made.value == pytest.approx(0.1 * 4**0.527 / 4)
    # A model four times as large on four times the tokens: as many tokens for each, so that only the length counts.
    made = td.rescale(0.1, before=before, after=after, num_params=(10**6, 4 * 10**6), rule="tokens_per_parameter")
    assert made.value == pytest.approx(0.1 / 4)
    with pytest.raises(UnitError, match=r"tokens_per_parameter, which needs num_params of both runs"):
        td.rescale(0.1, before=before, after=after, rule="tokens_per_parameter")


def test_forms_that_do_not_follow_the_learning_rate() -> None:
    """An independent λ is the fraction itself, whatever the learning rate becomes."""
    made = td.rescale(td.independent(1e-4), before=SMALL, after=run(lr=3e-3))
    assert made.form == "independent" and made.value == 1e-4
    assert td.rescale(td.per_step(1e-4), before=td.Run(steps=10), after=td.Run(steps=40), rule="timescale_runs").value \
        == pytest.approx(2.5e-5)  # fmt: skip
    assert td.rescale(td.decoupled(0.06), before=SMALL, after=run(lr=3e-3)).value == pytest.approx(0.02)


def test_the_peak_of_a_schedule_counts() -> None:
    """Under cosine as well as constant."""
    made = td.rescale(0.06, before=run(lr_schedule="cosine"), after=run(lr=2e-3, lr_schedule="cosine"))
    assert made.value == pytest.approx(0.03)


def test_width_is_disputed_and_the_user_may_choose() -> None:
    """Exponents 1, ½ and 0, with lr ∝ 1/width; of a fraction per step, and so of an independent λ, one less each."""
    made = td.rescale(0.1, width=(256, 1024))
    assert values(made) == pytest.approx({"width": 0.4, "square_root": 0.2, "inverse": 0.1})
    assert made.value is None and (made.low, made.high) == pytest.approx((0.1, 0.4))
    fractions = td.rescale(td.independent(0.1), width=(256, 1024))
    assert values(fractions) == pytest.approx({"width": 0.1, "square_root": 0.05, "inverse": 0.025})
    own = td.rescale(0.1, width=(256, 1024), width_exponent=-1)
    assert own.value == pytest.approx(0.025) and own.versions[0].source is None
    assert str(own).count("\n") == 1


def test_the_rule_of_nanochat_is_the_share_of_the_run() -> None:
    """λ_ref·√(B/B_ref)·(D_ref/D), which goes with lr ∝ √(B/B_ref), keeps the time scale as a share of the run."""
    before = td.Run(steps=1000, batch_size=64, tokens_per_sample=512, lr=0.02)
    after = td.Run(steps=3000, batch_size=256, tokens_per_sample=512, lr=0.02 * math.sqrt(256 / 64))
    tokens = 3000 * 256 / (1000 * 64)
    made = td.rescale(0.28, before=before, after=after, rule="timescale_runs")
    assert made.value == pytest.approx(0.28 * math.sqrt(256 / 64) / tokens)


def test_width_and_run_together_need_a_choice() -> None:
    """One rule for the run, then each exponent; the learning rates of the runs have no say beside the width's."""
    with pytest.raises(UnitError, match=r"Choose one with rule=: timescale_epochs, timescale_runs"):
        td.rescale(0.1, before=SMALL, after=run(batch_size=400), width=(1, 2))
    made = td.rescale(0.1, before=SMALL, after=run(batch_size=400, lr=5e-4), width=(1, 2), rule="timescale_epochs")
    assert values(made)["width"] == pytest.approx(0.1 * 4 * 2)
    assert td.rescale(0.1, before=SMALL, after=SMALL, width=(1, 2), width_exponent=1).value == pytest.approx(0.2)


def test_nothing_changes_nothing() -> None:
    """The same run gives the same value, to the bit, by every rule."""
    made = td.rescale(0.1, before=SMALL, after=SMALL)
    assert {one.value for one in made.versions} == {0.1}


def test_there_and_back() -> None:
    """Every rule undoes itself."""
    other = run(batch_size=300, lr=7e-4, num_samples=33_000, epochs=3)
    for name, rule in RULES.items():
        if "num_params" in rule.needs:
            continue
        there = td.rescale(0.1, before=SMALL, after=other, rule=name).value
        assert there is not None
        assert td.rescale(there, before=other, after=SMALL, rule=name).value == pytest.approx(0.1, rel=1e-14)


def test_json_has_it_all() -> None:
    """For programs: every version, its source, what was left out."""
    told = json.loads(td.rescale(0.1, before=SMALL, after=run(batch_size=400)).to_json())
    assert told["value"] is None and told["agree"] is False and len(told["versions"]) == 4
    assert told["versions"][0]["source"]["where"] == "arXiv 2405.13698" and told["left_out"]


@pytest.mark.parametrize(
    ("value", "given", "said"),
    [
        (0.1, {}, "nothing changes"),
        (0.1, {"before": SMALL}, "needs both runs"),
        (0.1, {"before": SMALL, "after": SMALL, "rule": "normalised"}, 'Nearest: "normalized"'),
        (0.1, {"before": td.Run(steps=3), "after": SMALL}, "don't both have a learning rate"),
        (0.1, {"before": SMALL, "after": SMALL, "width_exponent": 1}, "goes with width"),
        (0.1, {"width": 3}, "width is 3"),
        (0.1, {"width": (0, 3)}, "width is"),
        (0.1, {"width": (1, 3), "width_exponent": math.nan}, "width_exponent is nan"),
        (-0.1, {"width": (1, 3)}, "outside its range"),
        ("0.1", {"width": (1, 3)}, "without quotes"),
        (td.coupled(0.1), {"width": (1, 3)}, "is not rescaled"),
        (td.cautious(0.1), {"width": (1, 3)}, "has no unit"),
    ],
)
def test_wrong_use_is_told(value: Any, given: dict[str, Any], said: str) -> None:
    """What is wrong, and what to write instead."""
    with pytest.raises(UnitError, match=said):
        td.rescale(value, **given)
