"""`Monitor` on several processes: what it sums, who writes, and who is told."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import optim

import torchdecay as td
from meshes import both, fsdp1, fsdp2, make_model
from ranks import in_ranks


def history_of(wrap, *, steps=3, **options):
    model = wrap(make_model())
    optimizer = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    with td.Monitor(optimizer, every_steps=1, model=model, by="tensor", strict=True, **options) as monitor:
        for step in range(steps):
            x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step)).double()
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    return monitor.history


def _sums(rank, wrap):
    expected, found = history_of(lambda model: model), history_of(wrap)
    # Whether parts moved between the steps is measured, and not asked first: nothing did.
    assert found.groups == expected.groups and {*found.quantities} - {"between_shrink"} == {*expected.quantities}
    assert all(shrink == 0 for group in found.groups for shrink in found.curve(group, "between_shrink")[1])
    for group in expected.groups:
        for name in ("weight_norm", "gradient_norm", "planned_shrink", "realized_shrink", "update_norm"):
            one, other = (history.curve(group, name)[1] for history in (found, expected))
            assert one == pytest.approx(other, rel=1e-5, abs=1e-9), (group, name)


@pytest.mark.parametrize("wrap", [fsdp1, both], ids=["FSDP1", "TP + FSDP2"])
def test_norms_are_those_of_whole_weights(wrap):
    """FSDP1's parts have no mesh, some no elements; strided shards are no shards by their own word."""
    in_ranks(_sums, wrap, ranks=4 if wrap is both else 2)


def _one_writes(rank, path):
    told = []
    history_of(fsdp2, path=path, on_alarm=told.append)
    dist.barrier()
    assert td.History.load(path).steps == (1, 2, 3)
    # Every rank hears that the file is there already, though one writes.
    with pytest.raises(td.LoadError, match="is there already"):
        history_of(fsdp2, path=path)
    history_of(fsdp2, path=path, if_exists="replace")
    # Decay that dominates: the first is told, all of them where that is asked for.
    for everyone in (False, True):
        told = []
        model = fsdp2(make_model())
        optimizer = optim.AdamW(model.parameters(), lr=0.5, weight_decay=0.5)
        with td.Monitor(optimizer, model=model, on_alarm=told.append, on_every_rank=everyone) as monitor:
            model(torch.ones(2, 5).double()).sum().backward()
            optimizer.step()
        assert monitor.history.events and bool(told) == (everyone or rank == 0)


def test_one_process_writes_and_is_told(tmp_path):
    """And what it finds, a file that is there already, is an error on all of them."""
    in_ranks(_one_writes, tmp_path / "run.jsonl")


def _alone(rank):
    from torchdecay.apply import ranks

    ranks.PATIENCE = 2.0
    model = fsdp2(make_model())
    optimizer = optim.AdamW(model.parameters(), lr=0.1)
    handle = td.attach(optimizer, td.plan(model, td.forms.norm_control(0.1)), model=model)
    if rank == 0:
        for call in (td.Monitor, td.verify):
            with pytest.raises(td.ApplyError, match="was called by 1 of the 2 processes"):
                call(optimizer, model=model)
    dist.barrier()
    # One may audit alone, and says what it could not read.
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    if rank == 0:
        skipped = dict(td.audit(optimizer, model=model).skipped)
        assert "of 6 weights this process has a part" in skipped["WD404"]
    dist.barrier()
    handle.remove()


def test_who_needs_the_others_does_not_wait_for_ever():
    """Monitor and verify with a plan sum over the ranks; the audit asks nobody."""
    in_ranks(_alone)


def _invariant(rank, wrap):
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8, bias=False), nn.LayerNorm(8), nn.Linear(8, 4)).double()
    wrap = wrap(model)
    wrap(torch.randn(16, 5, generator=torch.Generator().manual_seed(1)).double()).square().mean().backward()
    plan = td.plan(wrap, 0.1, rules=[(td.scale_invariant(), None)])
    assert plan["0.weight"].decay is None and plan["2.weight"].decay is not None


def test_scale_invariant_weights_are_found_in_parts():
    """⟨w, g⟩ of the whole is 0, of a part it is not."""
    in_ranks(_invariant, fsdp2)
    # FSDP1's parts can't be asked for together: there it is an error, and not a plan without them.
    with pytest.raises(Exception, match=r"found no gradient on any parameter|matches no parameter"):
        in_ranks(_invariant, fsdp1)
