"""The roles of real architectures, each table read by a person against the source of its modules.

After a change that is meant: `PYTHONPATH=src python tests/golden/tables.py NAME`, then read the diff.
"""

from __future__ import annotations

import importlib.metadata

import pytest

from golden import architectures, tables

NAMES = list(architectures.ARCHITECTURES)
IN_THEIR_ENVIRONMENT = [pytest.param(name, marks=[pytest.mark.peers] * (name in architectures.TIMM)) for name in NAMES]


def made(name: str) -> str:
    """The table of an architecture as it is now, if its library is here in the version that the table is of."""
    written, _ = tables.read(name)
    try:
        here = tables.versions(architectures.LIBRARY[name])
    except importlib.metadata.PackageNotFoundError as error:
        pytest.skip(f"NOT COMPARED: {error.name} is not installed, so the roles of {name} go untested")
    if here != written:
        pytest.skip(f"NOT COMPARED: the table of {name} is of {written}, here is {here}")
    try:
        return tables.table(architectures.ARCHITECTURES[name]())
    except (ImportError, RuntimeError) as error:
        # torchvision's compiled part does not load beside another build of torch.
        if name not in architectures.TIMM:
            raise
        pytest.skip(f"NOT COMPARED: {architectures.LIBRARY[name]} cannot be used here: {error}")


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", IN_THEIR_ENVIRONMENT)
def test_the_roles_of_an_architecture_are_those_that_were_reviewed(name: str) -> None:
    assert made(name) == tables.read(name)[1]


def test_there_are_tables_for_at_least_25_architectures_and_none_is_left_over() -> None:
    assert len(architectures.TRANSFORMERS) >= 25
    assert {path.stem for path in tables.FOLDER.glob("*.txt")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_in_a_table_is_unknown(name: str) -> None:
    assert " unknown " not in tables.read(name)[1]


@pytest.mark.parametrize("name", NAMES)
def test_in_a_table_nothing_that_is_called_a_norm_or_a_bias_is_a_weight(name: str) -> None:
    """Read from the tables alone, so that no change of the code can talk it over."""
    for line in tables.read(name)[1].splitlines():
        pattern, role = line.split()[:2]
        owner, _, attribute = pattern.rpartition(".")
        if attribute == "bias" or owner.rpartition(".")[2].lower() in ("layernorm", "layer_norm", "norm", "ln_f"):
            assert role in ("bias", "norm"), line


@pytest.mark.filterwarnings("ignore")
def test_a_seeded_fault_shows_in_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the witness that knows custom norms, the table of Llama is another one."""
    from torchdecay.plans.roles import reading

    monkeypatch.setattr(reading, "WITNESSES", [one for one in reading.WITNESSES if one is not reading.named.norm])
    assert made("llama") != tables.read("llama")[1]
