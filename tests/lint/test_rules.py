"""Each rule of the lint finds what it is about, in code as the world writes it, and nothing in the mended twin."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path

import pytest
import torch

from torchdecay.findings.finding import Finding
from torchdecay.integrations.lint.lint import RULES, lint
from torchdecay.integrations.lint.optimizers import TORCH
from torchdecay.integrations.lint.rule import CHECKS

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.py"))
ROOT = Path(__file__).parents[2]
TWIN = "# ── mended ──\n"


def found_in(folder: Path, text: str) -> list[Finding]:
    """The findings of a text as the only file of a project."""
    (folder / "train.py").write_text(text, encoding="utf-8")
    return list(lint([folder]))


def told(findings: list[Finding]) -> list[tuple[int, str]]:
    return [(one.place.line, one.code) for one in findings if one.place is not None]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_a_snippet_is_faulty_where_it_says_and_its_twin_is_not(path: Path, tmp_path: Path) -> None:
    """Each `#! CODE` marks the line of a finding; there is no other, and no error or warning in the twin."""
    faulty, _, mended = path.read_text(encoding="utf-8").partition(TWIN)
    marked = [
        (number, code)
        for number, line in enumerate(faulty.splitlines(), start=1)
        for code in re.findall(r"WD\d+", line.partition("#!")[2])
    ]
    assert sorted(told(found_in(tmp_path, faulty))) == sorted(marked) and marked
    assert [one for one in found_in(tmp_path, mended) if one.severity != "info"] == [] and mended.strip()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.rule.code)
def test_the_example_of_a_rule_is_found_and_its_twin_is_clean(check, tmp_path: Path) -> None:
    """What the docs show."""
    assert check.rule.code in {one.code for one in found_in(tmp_path, check.rule.example)}
    assert [one.code for one in found_in(tmp_path, check.rule.mended) if one.severity != "info"] == []


def test_every_rule_has_a_snippet() -> None:
    """A rule without a snippet in the corpus is not tried."""
    assert {path.stem.partition("_")[0].upper() for path in CORPUS} == RULES.keys() - {"WD500"}


def test_what_is_known_of_torch_is_what_torch_has() -> None:
    """Names, defaults, places of weight_decay and keys of groups."""
    classes = {
        n: c for n, c in vars(torch.optim).items() if inspect.isclass(c) and issubclass(c, torch.optim.Optimizer)
    }
    del classes["Optimizer"]
    assert classes.keys() <= TORCH.keys()
    for name, cls in classes.items():
        arguments = list(inspect.signature(cls.__init__).parameters)[1:]
        defaults = inspect.signature(cls.__init__).parameters
        if "weight_decay" not in arguments:
            assert TORCH[name].coupling == "none"
            continue
        assert TORCH[name].default == defaults["weight_decay"].default
        assert defaults["weight_decay"].kind is inspect.Parameter.KEYWORD_ONLY or (
            arguments.index("weight_decay") == TORCH[name].position
        )
        made = cls([torch.nn.Parameter(torch.ones(2, 2))], **({"lr": 0.1} if name == "SGD" else {}))
        assert made.param_groups[0].keys() <= TORCH[name].keys


def test_the_page_of_the_docs_has_every_rule() -> None:
    """The hook of the site writes them in where the mark stands."""
    spec = importlib.util.spec_from_file_location("rules_hook", ROOT / "docs" / "hooks" / "rules.py")
    assert spec and spec.loader
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    page = hook.on_page_markdown((ROOT / "docs" / "lint.md").read_text(encoding="utf-8"))
    assert not any(mark in page for mark in hook.PAGES)
    assert all(
        f"### {one.code} {one.title}" in page and one.why in page and one.mended in page for one in RULES.values()
    )
