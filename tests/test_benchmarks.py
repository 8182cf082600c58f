"""The benchmarks' own parts: shapes, pairing and verdicts. The figures themselves are measured by `make bench`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in ("paired", "shapes", "table", "gpu"):
        sys.modules.pop(name, None)


def test_shapes_are_those_of_the_real_models():
    """Numbers of tensors and weights as published: GPT-2 with a tied head, and ResNet-50."""
    from shapes import gpt2, num_elements, resnet50

    assert (len(gpt2()), num_elements(gpt2())) == (148, 124_439_808)
    assert (len(resnet50()), num_elements(resnet50())) == (161, 25_557_032)


def test_without_a_gpu_its_script_says_so_and_runs_nothing(monkeypatch, capsys):
    """`make gpu` passes then; tests/gpu runs on the CPU with all tests."""
    import gpu

    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "GIVEN", "")
    monkeypatch.setattr(gpu, "tested", lambda: pytest.fail("it ran"))
    gpu.main()
    assert capsys.readouterr().out == "no GPU here; nothing was run\n"


def test_pairs_alternate_and_reset_stays_outside_the_clock():
    """A B, then B A: a drift of the machine favors neither; warm-up pairs are thrown away."""
    from paired import Options, interleave

    calls = []
    clock = {"a": 1.0, "b": 2.0}
    pairs = interleave(
        lambda: calls.append("a"),
        lambda: calls.append("b"),
        Options(3),
        warmup=1,
        reset=lambda: calls.append("reset"),
        clock=lambda work: (work(), clock[calls[-1]])[1],
    )
    assert pairs == [(1.0, 2.0)] * 3
    assert [call for call in calls if call != "reset"] == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert calls[::2] == ["reset"] * 8


def test_alone_measures_again_what_others_disturbed(monkeypatch):
    """A pair during which another process computed is not a measurement of ours."""
    import paired

    # (result, cores that others kept busy): busy before, calm but disturbed during, calm throughout.
    seen = iter([(None, 0.9), (None, 0.0), ("disturbed", 0.5), (None, 0.0), ("calm", 0.0)])
    monkeypatch.setattr(paired, "_others", lambda work: next(seen))
    assert paired.undisturbed(lambda: None, paired.Options(1, alone=True)) == "calm"

    monkeypatch.setattr(paired, "_others", lambda work: (None, 0.9))
    monkeypatch.setattr(paired, "PATIENCE", 0.01)
    with pytest.raises(SystemExit, match="never calm"):
        paired.undisturbed(lambda: None, paired.Options(1, alone=True))


def test_what_others_compute_is_what_all_did_less_our_own(tmp_path, monkeypatch):
    """Waiting and idling are no computing, interrupts are; and two hundredths are the kernel's rounding."""
    import paired

    stat = tmp_path / "stat"
    seconds, own = iter([10.0, 12.0]), iter([(1.0, 0.5, 0.0, 0.0, 0.0), (1.5, 0.5, 0.25, 0.0, 0.0)])
    monkeypatch.setattr(paired, "STAT", stat)
    monkeypatch.setattr(paired.os, "sysconf", lambda name: 100)
    monkeypatch.setattr(paired.os, "times", lambda: next(own))
    monkeypatch.setattr(paired.time, "perf_counter", lambda: next(seconds))

    def work():
        # user, nice, system, idle, iowait, irq, softirq, steal: 2.77 s computed, 0.75 s of them ours.
        stat.write_text("cpu  1150 10 570 9000 800 10 37 5000\ncpu0 0 0 0 0 0 0 0 0\n")
        return "done"

    stat.write_text("cpu  1000 0 500 100 100 0 0 0\ncpu0 0 0 0 0 0 0 0 0\n")
    assert paired._others(work) == ("done", pytest.approx((2.77 - 0.75 - 0.02) / 2))
    monkeypatch.setattr(paired, "STAT", tmp_path / "absent")
    seconds, own = iter([10.0, 12.0]), iter([(0.0,) * 5, (1.0,) * 5])
    assert paired._others(lambda: None) == (None, 0.0)


@pytest.mark.parametrize(
    ("median", "sense", "verdict"),
    [(1.7, "at least", "PASS"), (1.5, "at least", "FAIL"), (1.2, "at most", "PASS"), (1.3, "at most", "FAIL")],
)
def test_a_verdict_is_on_the_right_side_of_its_target(median, sense, verdict):
    """A missed target says FAIL."""
    from paired import Check, Spread

    target = 1.6 if sense == "at least" else 1.25
    assert Check("", Spread(0.0, median, 9.0), target=target, sense=sense).verdict == verdict


def test_the_readme_shows_the_results_that_are_kept():
    """The table in benchmarks/README.md is made from results/*.json; run benchmarks/table.py after measuring."""
    from table import FORMS, README, SPEED, with_figures

    text = README.read_text()
    assert with_figures(text) == text
    text = SPEED.read_text()
    assert with_figures(text, *FORMS) == text


def test_figures_of_one_table_stand_in_rows_and_columns():
    """A figure that misses its limit is bold, and a cell that was not measured is empty."""
    from paired import Check, Spread
    from table import _grid

    def check(median, target):
        return Check("", Spread(0.0, median, 9.0), target=target)

    cells = {
        ("l1", "eager"): check(1.5, 2.0),
        ("l1", "compiled"): check(2.25, 2.0),
        ("huber", "eager"): check(3.0, None),
    }
    assert _grid(cells)[2:] == ["| l1 | 1.50 (≤ 2) | **2.25** (≤ 2) |", "| huber | 3.00 |  |"]
