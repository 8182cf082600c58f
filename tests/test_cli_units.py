"""convert, rescale and suggest on the command line: what they print, and how they fail."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

import torchdecay as td
from calling import torchdecay
from torchdecay.cli import main
from torchdecay.cli.inputs.runs import PARTS, read_run
from torchdecay.errors import UnitError
from torchdecay.observe.units.graph import UNITS


@pytest.fixture
def call() -> Callable[..., Result]:
    """Run `torchdecay`; an exception that is no exit fails the test."""
    return torchdecay


def test_convert_prints_the_number_alone(call: Callable[..., Result]) -> None:
    """For a shell; all digits."""
    said = call("convert", "0.1", "decoupled", "half_life", "--lr", "1e-3").stdout
    assert float(said) == td.convert(0.1, "decoupled", "half_life", lr=1e-3)
    assert call("convert", "0.001", "penalty", "coupled").stdout == "0.002\n"
    assert call("convert", "0", "decoupled", "half_life", "--lr", "1").stdout == "inf\n"
    assert call("convert", "0.1,0.5", "elastic_net", "l1_l2", "--loss", "half_mse").stdout == "l1=0.05, l2=0.05\n"
    words = ["--lr", "1e-3", "--num-samples", "50000", "--batch-size", "128", "--optimizer", "sgd", "--momentum", "0"]
    said = call("convert", "0.1", "native", "timescale_epochs", *words).stdout
    assert float(said) == pytest.approx(10_000 / 391)


@pytest.mark.long
def test_what_is_missing_is_named_as_an_option(call: Callable[..., Result]) -> None:
    """Whatever two units lack, the message names options of this command, not Python's keywords."""
    options = set(re.findall(r"--[a-z-]+", call("convert", "--help").stdout))
    lacking = 0
    for source in UNITS:
        for target in UNITS:
            result = CliRunner().invoke(main, ["convert", "0.1", source, target])
            if " needs " in result.output:
                lacking += 1
                fix = result.output.partition("Give ")[2]
                assert "=" not in fix and set(re.findall(r"--[a-z-]+", fix)) <= options, fix
    assert lacking > 100
    said = call("convert", "0.1", "decoupled", "half_life_epochs", code=2).output
    assert "--lr, the learning rate at which" in said
    assert "--steps-per-epoch (or --num-samples and --batch-size)" in said


def test_convert_as_json(call: Callable[..., Result]) -> None:
    """Strict JSON, where an infinity is text."""
    told = json.loads(call("convert", "0", "decoupled", "half_life", "--lr", "0.5", "--json").stdout)
    assert told == {
        "value": "Infinity", "unit": "half_life", "source": {"value": 0.0, "unit": "decoupled"}, "context": {"lr": 0.5},
    }  # fmt: skip
    told = json.loads(call("convert", "0.1,0.5", "elastic_net", "l1_l2", "--loss", "half_mse", "--json").stdout)
    assert told["value"] == {"l1": 0.05, "l2": 0.05}


def test_every_unit_is_listed(call: Callable[..., Result]) -> None:
    """With its equation, within 120 columns."""
    text = call("convert", "--list").stdout
    assert all(f"\n  {name} " in text for name in UNITS) and all(len(line) <= 120 for line in text.splitlines())
    assert set(json.loads(call("convert", "--list", "--json").stdout)) == set(UNITS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["convert"], "needs VALUE SOURCE TARGET"),
        (["convert", "0.1", "decoupled", "halflife"], 'Nearest: "half_life"'),
        (["convert", "0.1", "decoupled", "half_life_epochs"], "needs steps_per_epoch, lr"),
        (["convert", "zero", "decoupled", "per_step"], '"zero" is not a number'),
        (["convert", "0.1", "decoupled", "per_step", "--lr", "-1"], "outside its range"),
        (["rescale", "0.1"], "nothing changes"),
        (["rescale", "0.1", "--width", "256"], "--width 256,1024"),
        (["rescale", "none", "--width", "2,4"], "nothing to rescale"),
        (["rescale", "0.1", "--before", "lr=1e-3,step=10", "--after", "lr=1e-3,steps=10"], 'Nearest: "steps"'),
        (["rescale", "0.1", "--before", "lr=x,steps=10", "--after", "steps=10"], 'lr="x" is not a number'),
        (["rescale", "0.1", "--before", "lr=1,steps=10,lr=2", "--after", "steps=10"], "says lr twice"),
        (["suggest"], "neither steps nor epochs"),
        (["suggest", "--steps", "10"], "needs lr, steps_per_epoch"),
        (["suggest", "--steps", "10", "--lr", "1", "--known", "lr=3"], "--known begins with"),
    ],
)
def test_wrong_use_is_told_with_exit_code_2(call: Callable[..., Result], words: list[str], said: str) -> None:
    """On stderr, without a traceback."""
    result = call(*words, code=2)
    assert said in result.stderr and not result.stdout


def test_rescale_shows_every_source(call: Callable[..., Result]) -> None:
    """And one value where one is chosen."""
    before, after = (
        "lr=1e-3,epochs=10,batch_size=100,num_samples=10000",
        "lr=1e-3,epochs=10,batch-size=400,num_samples=10000",
    )
    text = call("rescale", "0.05", "--before", before, "--after", after).stdout
    assert "the sources disagree" in text and "arXiv 2405.13698" in text and "arXiv 1711.05101" in text
    told = json.loads(
        call("rescale", "0.05", "--before", before, "--after", after, "--rule", "normalized", "--json").stdout
    )
    assert told["value"] == pytest.approx(0.1)
    assert "independent(0.0001)" in call("rescale", "independent:1e-4", "--width", "256,1_024").stdout


def test_suggest_prints_value_range_and_source(call: Callable[..., Result]) -> None:
    """By the run, by the number of parameters, by a good run."""
    run = ["--lr", "1e-3", "--epochs", "10", "--batch-size", "100", "--num-samples", "10000"]
    text = call("suggest", *run).stdout
    assert text.startswith("decoupled(3.16), to sweep from 1 to 10") and "arXiv 2405.13698" in text
    words = ["--lr", "6e-4", "--steps", "5000", "--batch-size", "480", "--tokens-per-sample", "1024"]
    assert "needs known_run" in call("suggest", "124_000_000", *words, code=2).stderr
    told = json.loads(call("suggest", *run, "--known", "0.4,lr=1e-3,steps=1000,epochs=10", "--json").stdout)
    assert told["rule"] == "inherit" and told["value"] == pytest.approx(0.4)
    known = "0.4,lr=1e-3,steps=1000,batch_size=480,tokens_per_sample=1024,num_params=124000000"
    told = json.loads(call("suggest", "124000000", *words, "--known", known, "--json").stdout)
    assert told["rule"] == "inherit" and told["value"] == pytest.approx(0.4 / 0.6 * 5**0.527 / 5)
    assert told["source"]["where"] == "arXiv 2505.13738" and told["others"][0]["rule"] == "tokens_per_parameter"


def test_suggest_takes_a_model(call: Callable[..., Result]) -> None:
    """By module:name, as plan does."""
    words = ["--lr", "1", "--steps", "10", "--batch-size", "4", "--tokens-per-sample", "8"]
    text = call("suggest", "torch.nn:Identity", *words, code=2).stderr
    assert "no parameter that trains" in text


def test_a_run_is_read_as_it_is_made() -> None:
    """Every part of it, dashes or not."""
    text = (
        "steps=10,lr=1e-3,lr-schedule=cosine,warmup_steps=2,batch_size=4,accumulate=2,tokens_per_sample=8,num_params=5"
    )
    run, more = read_run(text, also=("num_params",))
    assert run == td.Run(steps=10, lr=1e-3, lr_schedule="cosine", warmup_steps=2, batch_size=4, accumulate=2,
                         tokens_per_sample=8)  # fmt: skip
    assert more == {"num_params": 5}
    with pytest.raises(UnitError, match="num_params"):
        read_run(text)
    assert set(PARTS) <= set(td.Run.__dataclass_fields__)
