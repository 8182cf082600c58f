"""Every form on every mesh: what it gives on one process, or refused by an error that says why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import optim
from torch.distributed.optim import ZeroRedundancyOptimizer

import torchdecay as td
from meshes import FORMS, both, ddp, fsdp1, fsdp1_flat, fsdp2, hsdp, make_model, plan_of, tensor_parallel, whole_weights
from ranks import in_ranks

MESHES = {
    "DDP": (2, ddp),
    "DDP, ZeRO": (2, ddp),
    "FSDP2": (2, fsdp2),
    "FSDP2 on 3": (3, fsdp2),
    "HSDP": (4, hsdp),
    "TP": (2, tensor_parallel),
    "TP + FSDP2": (4, both),
    "FSDP1": (2, fsdp1),
    "FSDP1, flat": (2, fsdp1_flat),
}
# Sums over ranks round in another order, and Adam's division magnifies that where a gradient is tiny.
TOLERANCE = 1e-10


def trained(decay, *, wrap=None, zero=False):
    model = make_model()
    if wrap is not None:
        model = wrap(model)
    if zero:
        optimizer = ZeroRedundancyOptimizer(model.parameters(), optim.AdamW, lr=0.1, weight_decay=0.0)
    else:
        optimizer = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
    handle = td.attach(optimizer, plan_of(model, decay), model=model)
    for step in range(4):
        # Every rank sees the same rows, so that the mean of the gradients is that of one process.
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step)).double()
        optimizer.zero_grad()
        (model(x).square().mean() + handle.penalty(model)).backward()
        optimizer.step()
    return whole_weights(model)


def fill_cells(rank, name, path):
    _, wrap = MESHES[name]
    cells = {}
    for form, decay in FORMS.items():
        try:
            found = trained(decay, wrap=wrap, zero="ZeRO" in name)
        except td.ApplyError as error:
            cells[form] = f"refused: {error}"
            continue
        distance = (found - trained(decay)).abs().max().item()
        cells[form] = "equal" if distance < TOLERANCE else f"differs by {distance:.1e}"
    path.with_suffix(f".{rank}").write_text(json.dumps(cells))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """{mesh: {form: cell}}, on which all ranks agree."""
    found = {}
    for name, (ranks, _) in MESHES.items():
        path = tmp_path_factory.mktemp("cells") / "cells"
        in_ranks(fill_cells, name, path, ranks=ranks)
        first, *others = (json.loads(path.with_suffix(f".{rank}").read_text()) for rank in range(ranks))
        assert all(other == first for other in others), name
        found[name] = first
    return found


def markdown(table) -> str:
    """The table as the docs have it."""
    rows = [f"| form | {' | '.join(table)} |", f"|---|{'---|' * len(table)}"]
    for form in FORMS:
        rows.append(f"| {form} | {' | '.join(cells[form].partition(':')[0] for cells in table.values())} |")
    return "\n".join(rows)


def test_the_docs_have_this_table(table):
    """Made by this test: paste what it prints."""
    assert markdown(table) in (Path(__file__).parents[2] / "docs" / "many-machines.md").read_text(encoding="utf-8")


def test_every_form_on_every_mesh_is_equal_to_one_process_or_refused(table, capsys):
    """No cell is silently another form. FSDP1 refuses what goes by a whole tensor, ZeRO what reads the inner state."""
    with capsys.disabled():
        print("\n" + markdown(table))
    wrong = {(name, form): cell for name, cells in table.items() for form, cell in cells.items()}
    assert not {place: cell for place, cell in wrong.items() if not cell.startswith(("equal", "refused: "))}
    reasons = ("FSDP1", "ZeroRedundancyOptimizer")
    assert all(any(reason in cell for reason in reasons) for cell in wrong.values() if cell != "equal")
    refusing = {name for name, cells in table.items() if any(cell != "equal" for cell in cells.values())}
    assert refusing == {"DDP, ZeRO", "FSDP1", "FSDP1, flat"}
