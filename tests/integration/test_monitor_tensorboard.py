"""Real event files, read back by TensorBoard's own reader; and other writers beside it."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

import torchdecay as td

pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from torchdecay.integrations.tensorboard import TensorBoard


def train(writers, *, wd=0.1, **options):
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = optim.AdamW(td.param_groups(model, wd), lr=0.01)
    with td.Monitor(optimizer, every_steps=2, writers=writers, **options) as monitor:
        for _ in range(5):
            optimizer.zero_grad()
            model(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
    return monitor.history


def read(folder):
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0})
    events.Reload()
    return events


def test_every_number_of_a_history_is_in_the_event_files(tmp_path):
    """As scalars, at the steps of the records."""
    history = train([TensorBoard(tmp_path)])
    events = read(tmp_path)
    tags = {f"decay/{group}/{name}" for group in history.groups for name in history.quantities
            if history.curve(group, name)[0]}  # fmt: skip
    assert set(events.Tags()["scalars"]) == tags and len(tags) > 10
    assert history.steps == (1, 2, 4)
    for group in history.groups:
        for name in history.quantities:
            steps, values = history.curve(group, name)
            if steps:
                found = events.Scalars(f"decay/{group}/{name}")
                assert tuple(one.step for one in found) == steps
                assert tuple(one.value for one in found) == pytest.approx(values, rel=1e-6)


def test_alarms_are_text(tmp_path):
    """What, why and what to do stand beside the curves."""
    history = train([TensorBoard(tmp_path, prefix="wd")], wd=20.0)
    (event,) = history.events
    events = read(tmp_path)
    (found,) = events.Tensors("wd/alarms/text_summary")
    assert found.step == event.step
    assert "dominates" in found.tensor_proto.string_val[0].decode()


def test_a_writer_of_the_users_own_stays_open(tmp_path):
    """Others may go on writing to it."""
    own = SummaryWriter(str(tmp_path))
    train([TensorBoard(own)])
    own.add_scalar("loss", 1.0, 6)
    own.close()
    assert "loss" in read(tmp_path).Tags()["scalars"]


def test_any_callable_is_a_writer():
    """It gets a flat dictionary and the step, as wandb.log and mlflow.log_metrics do; several may be given."""
    seen, more = [], []
    history = train([lambda values, step: seen.append((step, values)), lambda *given: more.append(given)])
    assert [step for step, _ in seen] == [1, 2, 4] and len(more) == 3
    assert seen[0][1]["weight/planned_shrink"] == pytest.approx(0.001)
    assert all(value == value for _, values in seen for value in values.values()), "what is not known is left out"
    for step, values in seen:
        assert set(values) == {
            f"{group}/{name}"
            for group in history.groups
            for name in history.quantities
            if step in history.curve(group, name)[0]
        }
