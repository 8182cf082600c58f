"""`pytest --torchdecay`: what a test's optimizers do wrong is said, and fails it where that is asked for."""

from __future__ import annotations

import pytest
import torch._dynamo

import torchdecay.integrations.script.watching

pytestmark = pytest.mark.long

# pytester forgets the modules that a run inside it imports, and torch can't be imported twice.
assert torch._dynamo and torchdecay.integrations.script.watching

pytest_plugins = ["pytester"]

TESTS = """
import torch

def train(wd, bias):
    model = torch.nn.Linear(3, 2, bias=bias)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=wd)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()

def test_fine():
    train(0.1, bias=False)

def test_bias_decays():
    train(0.1, bias=True)

def test_fails_by_itself():
    train(0.1, bias=True)
    assert False, "mine"
"""


@pytest.mark.parametrize(
    ("words", "passed", "failed", "said"),
    [
        ([], 2, 1, False),
        (["--torchdecay"], 2, 1, True),
        (["--torchdecay-fail-on=error"], 2, 1, True),
        (["--torchdecay-fail-on=warning"], 1, 2, True),
    ],
)
def test_findings_are_said_and_fail_what_was_asked_for(
    words: list[str], passed: int, failed: int, said: bool, pytester: pytest.Pytester
) -> None:
    """A test's own failure comes first."""
    pytester.makepyfile(TESTS)
    result = pytester.runpytest("-p", "torchdecay.integrations.pytest_plugin", *words)
    result.assert_outcomes(passed=passed, failed=failed)
    text = result.stdout.str()
    assert ("WD101" in text) is said
    assert ("test_findings_are_said_and_fail_what_was_asked_for.py::test_fails_by_itself\n  AdamW" in text) is said
    assert "assert False" in text or "mine" in text


FIXTURE = """
import pytest, torch

@pytest.fixture(scope="module")
def trained():
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return optimizer

def test_first(trained):
    pass

def test_second(trained):
    trained.step()
"""


def test_what_a_fixture_trains_is_seen_where_it_is_made_and_where_it_steps_again(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FIXTURE)
    result = pytester.runpytest("-p", "torchdecay.integrations.pytest_plugin", "--torchdecay-fail-on=warning")
    result.assert_outcomes(errors=1, failed=1)
    assert result.stdout.str().count("WD101") >= 2
