"""`suggest`: its three rules by their formulas, and a remark for all that their sources did not look at."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay.errors import DecayError, UnitError

RUN = td.Run(epochs=10, batch_size=100, num_samples=10_000, lr=1e-3)
LANGUAGE = td.Run(steps=10_000, batch_size=100, tokens_per_sample=2000, lr=1e-3, lr_schedule="linear")
KNOWN = (0.1, td.Run(steps=2000, batch_size=100, tokens_per_sample=2000, lr=1e-3), 100_000_000)


def remarks(made: td.Suggestion) -> str:
    return "\n".join(made.remarks)


def test_the_time_scale_lies_between_an_epoch_and_the_run() -> None:
    """100 steps and 1000 at lr 1e-3: λ from 1 to 10, and the time scale of the value halfway in logarithms."""
    made = td.suggest(None, run=RUN)
    assert (made.low, made.value, made.high) == pytest.approx((1.0, math.sqrt(10), 10.0))
    assert made.rule == "timescale" and made.source.where == "arXiv 2405.13698"
    for value, epochs in ((made.low, 10), (made.high, 1)):
        assert td.convert(value, "decoupled", "timescale_epochs", run=RUN) == pytest.approx(epochs)
    assert made.timescale == pytest.approx(1 / (1e-3 * made.value))
    assert made.timescale_epochs == pytest.approx(made.timescale / 100)
    assert made.decay == td.decoupled(made.value)


def test_language_models_follow_the_power_law_from_a_good_run() -> None:
    """From 4 tokens per parameter to 20: 5^0.527 times the fraction, over five times the steps."""
    made = td.suggest(100_000_000, run=LANGUAGE, known=KNOWN, rule="tokens_per_parameter")
    assert made.source.where == "arXiv 2505.13738" and "known run" in made.formula
    assert made.value == pytest.approx(0.1 * 5**0.527 / 5)
    assert (made.low, made.high) == pytest.approx((made.value / 2, made.value * 2))
    assert made.timescale_epochs is None and made.others == ()
    half = td.suggest(100_000_000, run=LANGUAGE, known=(td.independent(5e-5), *KNOWN[1:]), rule="tokens_per_parameter")
    assert half.value == pytest.approx(made.value / 2)


def test_the_power_law_alone_says_no_value() -> None:
    """How the best decay goes is fitted in its source; a constant that no page could be found for is not offered."""
    for known in (None, KNOWN[:2], (0.1, RUN, 100)):
        with pytest.raises(UnitError, match=r"tokens_per_parameter needs known_run\.\n.*not what it is"):
            td.suggest(100_000_000, run=LANGUAGE, known=known, rule="tokens_per_parameter")
    with pytest.raises(UnitError, match=r"tokens_per_parameter needs known_run"):
        td.suggest(100_000_000, run=LANGUAGE)


def test_larger_decay_in_pretraining_may_fine_tune_better() -> None:
    """Remarked for what sees tokens, and for nothing else."""
    assert "arXiv 2602.11137" in remarks(td.suggest(100_000_000, run=LANGUAGE, known=KNOWN))
    assert "2602.11137" not in remarks(td.suggest(None, run=RUN))


def test_a_good_run_is_inherited() -> None:
    """By its time scale in epochs; from the lowest to the highest of what all rules say."""
    known = td.Run(epochs=10, batch_size=400, num_samples=10_000, lr=2e-3)
    made = td.suggest(None, run=RUN, known=(0.4, known))
    scaled = td.rescale(0.4, before=known, after=RUN)
    assert made.rule == "inherit"
    assert made.value == td.rescale(0.4, before=known, after=RUN, rule="timescale_epochs").value
    assert (made.low, made.high) == (scaled.low, scaled.high) and "rules disagree" in remarks(made)
    assert made.timescale_epochs == pytest.approx(td.convert(0.4, "decoupled", "timescale_epochs", run=known))
    assert [other.rule for other in made.others] == ["timescale"]
    assert td.suggest(None, run=RUN, known=(0.4, RUN)).remarks == ()


def test_an_inherited_fraction_becomes_a_decoupled_value() -> None:
    """What is suggested is always a decoupled λ."""
    made = td.suggest(None, run=RUN, known=(td.independent(1e-4), RUN))
    assert made.value == pytest.approx(0.1)


def test_a_language_model_inherits_by_the_power_law_where_sizes_are_known() -> None:
    """Else by the share of the run."""
    known = td.Run(steps=2000, batch_size=100, tokens_per_sample=2000, lr=1e-3)
    sized = td.suggest(100_000_000, run=LANGUAGE, known=(0.1, known, 100_000_000))
    assert sized.value == pytest.approx(0.1 * 5**0.527 / 5)
    assert td.suggest(None, run=LANGUAGE, known=(0.1, known)).value == pytest.approx(0.1 / 5)


def test_what_else_applies_is_told() -> None:
    """A language model with known data: the good run first, the others beside it; a named rule stands alone."""
    run = td.Run(steps=10_000, batch_size=100, tokens_per_sample=2000, lr=1e-3, num_samples=100_000)
    made = td.suggest(100_000_000, run=run, known=KNOWN)
    assert made.rule == "inherit" and [other.rule for other in made.others] == ["timescale", "tokens_per_parameter"]
    assert made.value == made.others[1].value
    assert "rule timescale says" in str(made) and "seen 10 times" in remarks(made)
    assert td.suggest(100_000_000, run=run, rule="timescale").others == ()


def test_the_model_is_counted() -> None:
    """What trains, each tensor once; embeddings are remarked upon, and weights need no memory."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Embedding(1000, 64), nn.Linear(64, 64), nn.Linear(64, 64))
    model[2].requires_grad_(False)
    made = td.suggest(model, run=LANGUAGE, known=KNOWN)
    count = 64_000 + 64 * 65
    assert made.value == td.suggest(count, run=LANGUAGE, known=KNOWN).value
    assert "94% of the parameters are embeddings" in remarks(made)
    with pytest.raises(UnitError, match="no parameter that trains"):
        td.suggest(model.requires_grad_(False), run=LANGUAGE)


def test_the_peak_learning_rate_counts() -> None:
    """Of a name, a scheduler or the optimizer; that it falls below is remarked upon."""
    plain = td.suggest(None, run=RUN)
    falling = td.suggest(None, run=td.Run(epochs=10, batch_size=100, num_samples=10_000, lr=1e-3, lr_schedule="cosine"))
    assert falling.value == pytest.approx(plain.value) and "on average 50% of its peak" in remarks(falling)
    optimizer = optim.AdamW([nn.Parameter(torch.zeros(2))], lr=1e-3)
    bare = td.Run(epochs=10, batch_size=100, num_samples=10_000)
    assert td.suggest(None, run=bare, optimizer=optimizer).value == plain.value
    cycle = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=1000)
    cycled = td.Run(epochs=10, batch_size=100, num_samples=10_000, lr_schedule=cycle)
    assert td.suggest(None, run=cycled, optimizer=optimizer).value == pytest.approx(plain.value)
    two = [{"params": [nn.Parameter(torch.zeros(2))], "lr": lr} for lr in (1e-4, 1e-3)]
    mixed = td.suggest(None, run=bare, optimizer=optim.AdamW(two))
    assert mixed.value == plain.value and "for the largest of them" in remarks(mixed)
    plateau = td.Run(steps=1000, epochs=10, lr=1e-3, lr_schedule=optim.lr_scheduler.ReduceLROnPlateau(optimizer))
    assert td.suggest(None, run=plateau).value == pytest.approx(plain.value)


@pytest.mark.parametrize(
    ("model", "run", "optimizer", "said"),
    [
        (None, td.Run(epochs=1, batch_size=100, num_samples=10_000, lr=1e-3), None, "no more than once"),
        (None, td.Run(epochs=9, batch_size=100, num_samples=500, lr=1e-3), None, "an epoch has 5 steps"),
        (None, RUN, "lbfgs", "looked at AdamW, not at LBFGS"),
        (None, RUN, "adam", "Adam's own weight_decay is coupled"),
        (None, RUN, None, "values above 1 are usual"),
        (10_000_000, LANGUAGE, None, "10,000,000 parameters lie outside"),
        (3_000_000_000, LANGUAGE, None, "0.667 tokens per parameter"),
        (100_000_000, td.Run(steps=10_000, batch_size=100, tokens_per_sample=2000, lr=1e-3), None, "above a tenth"),
    ],
)
def test_outside_what_the_source_looked_at(model: Any, run: td.Run, optimizer: Any, said: str) -> None:
    """Told in the suggestion, and when it is printed."""
    made = td.suggest(model, run=run, optimizer=optimizer, known=None if model is None else KNOWN)
    assert said in remarks(made) and said in str(made)


def test_inside_there_is_nothing_to_remark() -> None:
    """AdamW, ten epochs, lr high enough for values below 1: remarks are no ritual."""
    run = td.Run(epochs=10, batch_size=100, num_samples=10_000, lr=0.02)
    assert td.suggest(None, run=run, optimizer="adamw").remarks == ()


def test_it_prints_and_turns_into_json() -> None:
    """Value, range, rule, source; and the same for programs."""
    made = td.suggest(None, run=RUN, known=(0.4, RUN))
    assert str(made).startswith("decoupled(0.4), to sweep from 0.4 to 0.4")
    told = json.loads(made.to_json())
    assert told["value"] == pytest.approx(0.4) and told["form"] == "decoupled"
    assert told["source"]["where"] == "arXiv 2405.13698" and told["others"][0]["rule"] == "timescale"


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        (None, {"run": td.Run(steps=10)}, "rule timescale needs lr, steps_per_epoch"),
        (
            None,
            {"run": td.Run(steps=10), "rule": "tokens_per_parameter"},
            "needs lr, tokens_per_step, num_params, known_run",
        ),
        (None, {"run": RUN, "rule": "inherit"}, "rule inherit needs known"),
        (None, {"run": RUN, "rule": "timescales"}, 'Nearest: "timescale"'),
        (None, {"run": 3}, "run is 3"),
        (None, {"run": RUN, "known": 0.1}, "known is 0.1"),
        (None, {"run": RUN, "known": (0.1, RUN, 0)}, "num_params of known"),
        (None, {"run": RUN, "optimizer": "adamv"}, 'Nearest: "adam'),
        ("gpt2", {"run": RUN}, "model is 'gpt2'"),
        (0, {"run": RUN}, "model is 0"),
    ],
)
def test_wrong_use_is_told(model: Any, given: dict[str, Any], said: str) -> None:
    """All that is missing in one message."""
    with pytest.raises((UnitError, DecayError), match=said):
        td.suggest(model, **given)


def test_the_value_is_near_the_best_of_a_real_task() -> None:
    """Digits with wrong labels, 1,000 rows, batch 128, lr 1e-3, 1,000 steps: of 0, 0.1, 1, 3, 10, 30, 10 did best."""
    made = td.suggest(None, run=td.Run(steps=1000, batch_size=128, num_samples=1000, lr=1e-3), optimizer="adamw")
    assert made.value == pytest.approx(11.2, abs=0.1) and made.low < 10 < made.high
