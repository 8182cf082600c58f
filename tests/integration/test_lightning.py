"""The callbacks in Lightning's real Trainer: the numbers of plain torch, and of a run that was never interrupted."""

from __future__ import annotations

import copy
import csv
import logging
import pickle

import pytest
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

import torchdecay as td

pytest.importorskip("lightning", reason="Lightning is not installed")
import lightning
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning_utilities.core import rank_zero

from torchdecay.integrations.lightning import DecayMonitor, WeightDecay

pytestmark = pytest.mark.peers
DATA = TensorDataset(torch.randn(24, 4, generator=torch.Generator().manual_seed(1)))
FORM = td.toward("initial", 0.5)


class Small(LightningModule):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))

    def training_step(self, batch, index):
        loss = self.net(batch[0]).square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        optimizer = optim.AdamW(self.parameters(), lr=0.1, weight_decay=0.3)
        return [optimizer], [optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch))]


class Manual(Small):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def configure_optimizers(self):
        first = optim.SGD(self.net[0].parameters(), lr=0.1)
        return [first, optim.AdamW([*self.net[1].parameters(), *self.net[2].parameters()], lr=0.1)]

    def training_step(self, batch, index):
        for one in self.optimizers():
            one.zero_grad()
            self.manual_backward(self.net(batch[0]).square().mean())
            one.step()


def trainer(*callbacks, epochs=2, logger=False, folder=None, **options):
    quiet = dict(enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, log_every_n_steps=1)
    return Trainer(
        max_epochs=epochs, callbacks=list(callbacks), logger=logger, default_root_dir=folder, accelerator="cpu",
        **quiet | options,
    )  # fmt: skip


def batches():
    return DataLoader(DATA, batch_size=8)


def fit(model, *callbacks, resumed=None, **options):
    made = trainer(*callbacks, **options)
    made.fit(model, batches(), ckpt_path=resumed)
    return made


def weights(model):
    return torch.cat([param.detach().flatten() for param in model.parameters()])


def plain(model, decay, epochs=2):
    """The loop that the Trainer runs."""
    (optimizer,), (scheduler,) = model.configure_optimizers()
    td.attach(optimizer, decay, model=model)
    for _ in range(epochs):
        for (batch,) in batches():
            optimizer.zero_grad()
            model.net(batch).square().mean().backward()
            optimizer.step()
        scheduler.step()
    return weights(model)


@pytest.mark.parametrize("decay", [td.independent(0.2), td.cautious(0.2), td.l1(0.1), FORM])
def test_a_fit_is_a_loop_in_plain_torch(decay):
    """Bit for bit: native, by hook with the closure that Lightning passes, after the step, toward a reference."""
    model = Small()
    fit(model, WeightDecay(decay))
    assert torch.equal(weights(model), plain(Small(), decay))


@pytest.mark.parametrize(
    "decay", [td.independent(0.2), FORM, td.forms.toward_average(0.5), td.forms.constrained(kappa_initial=0.9)]
)
def test_a_run_that_is_resumed_goes_on_as_it_would_have(decay, tmp_path):
    """Steps, peaks, duals and references come back: the checkpoint's weights are not taken for the initial ones."""
    whole, half, again = Small(), Small(), Small(seed=7)
    fit(whole, WeightDecay(decay), epochs=4)
    fit(half, WeightDecay(decay)).save_checkpoint(tmp_path / "half.ckpt")
    fit(again, WeightDecay(decay), epochs=4, resumed=tmp_path / "half.ckpt")
    assert torch.equal(weights(whole), weights(again)) and not torch.equal(weights(half), weights(again))


def test_many_optimizers_and_manual_optimization():
    """Each has its own part of the one plan, and a second fit begins anew."""
    model, decay = Manual(), WeightDecay(td.decoupled(0.1))
    monitor = DecayMonitor(every_n_steps=1)
    fit(model, decay, monitor)
    assert [type(handle.optimizer).__name__ for handle in decay.handles] == ["SGD", "AdamW"]
    assert [[row.name for row in handle.lowering if row.decay] for handle in decay.handles] == [
        ["net.0.weight"],
        ["net.2.weight"],
    ]
    assert not monitor.history.events and len(monitor.history.groups) == 5
    first = decay.handles
    fit(model, decay)
    assert len(decay.handles) == 2 and not set(first) & set(decay.handles)


class Unfreeze(lightning.pytorch.Callback):
    """As BackboneFinetuning does: a group without names, in the middle of a run."""

    def on_train_epoch_start(self, trainer, pl_module):
        frozen = pl_module.net[0]
        frozen.requires_grad_(trainer.current_epoch > 0)
        if trainer.current_epoch == 1:
            trainer.optimizers[0].add_param_group({"params": list(frozen.parameters()), "lr": 0.01})


class Frozen(Small):
    def __init__(self):
        super().__init__()
        self.net[0].requires_grad_(False)

    def configure_optimizers(self):
        return optim.AdamW([one for one in self.parameters() if one.requires_grad], lr=0.1)


def test_what_is_unfrozen_later_is_planned_by_the_same_rules():
    """Fine-tuning in stages keeps on, and its weights decay from then on."""
    decay = WeightDecay(td.decoupled(0.5))
    fit(Frozen(), decay, Unfreeze())
    (handle,) = decay.handles
    assert {row.name for row in handle.lowering if row.decay} == {"net.0.weight", "net.2.weight"}


def test_records_stand_beside_the_loss(tmp_path):
    """Under names that say what they are, at the steps that the loss has; and they go on after a resume."""
    monitor = DecayMonitor(every_n_steps=2, path=tmp_path / "run.jsonl")
    logger = CSVLogger(tmp_path, name="", version="")
    made = fit(Small(), WeightDecay(td.decoupled(0.1)), monitor, logger=logger)
    made.save_checkpoint(tmp_path / "a.ckpt")
    with open(tmp_path / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows if row["loss"]] == ["0", "1", "2", "3", "4", "5"]
    found = {int(row["step"]): float(row["decay/weight/planned_shrink"]) for row in rows
             if row["decay/weight/planned_shrink"]}  # fmt: skip
    assert found == {0: pytest.approx(0.01), 1: pytest.approx(0.01), 3: pytest.approx(0.005), 5: pytest.approx(0.005)}
    again = DecayMonitor(every_n_steps=2, path=tmp_path / "run.jsonl")
    fit(Small(), WeightDecay(td.decoupled(0.1)), again, epochs=4, resumed=tmp_path / "a.ckpt")
    steps = again.history.steps
    assert steps[:4] == (1, 2, 4, 6) and list(steps) == sorted(set(steps)) and steps[-1] > 10


def test_who_wins_is_said_once():
    """The optimizer's own weight_decay beside a plan is not lost silently."""
    told = []
    logger, listener = rank_zero.log, logging.Handler()
    listener.emit = lambda record: told.append(record.getMessage())
    level, _ = logger.level, logger.addHandler(listener)
    logger.setLevel("INFO")
    fit(Small(), WeightDecay(td.cautious(0.1)))
    logger.setLevel(level)
    logger.removeHandler(listener)
    (said,) = [one for one in told if one.startswith("WeightDecay")]
    assert "cautious(0.1)" in said and "weight_decay=0.3 of AdamW does not count" in said


def test_what_can_not_be_is_refused(tmp_path):
    """Twice the callback; a plan that is attached already; another plan than the checkpoint's, with the difference."""
    with pytest.raises(RuntimeError, match="more than one stateful callback of type `WeightDecay`"):
        trainer(WeightDecay(0.1), WeightDecay(0.2))

    class Attached(Small):
        def configure_optimizers(self):
            optimizer = optim.AdamW(self.parameters(), lr=0.1)
            td.attach(optimizer, 0.1, model=self)
            return optimizer

    with pytest.raises(td.ApplyError, match="attached to this optimizer already"):
        fit(Attached(), WeightDecay(0.1))
    fit(Small(), WeightDecay(td.decoupled(0.1)), epochs=1).save_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(td.LoadError, match=r"cautious\(0\.1\)"):
        fit(Small(), WeightDecay(td.cautious(0.1)), resumed=tmp_path / "a.ckpt")
    with pytest.raises(td.DecayError):
        WeightDecay(-1.0)
    with pytest.raises(td.ApplyError, match="every_n_steps is 0"):
        DecayMonitor(every_n_steps=0)
    with pytest.raises(td.PlanError, match="rules beside a plan"):
        WeightDecay(td.plan(nn.Linear(2, 2), 0.1), rules=td.policies.torch)


def test_callbacks_can_be_copied_and_sent_to_other_processes():
    """After a fit too: hooks and files stay where they are."""
    decay, monitor = WeightDecay(FORM), DecayMonitor()
    fit(Small(), decay, monitor, epochs=1)
    for one in (*pickle.loads(pickle.dumps([decay, monitor])), *copy.deepcopy([decay, monitor])):
        assert not getattr(one, "handles", None)
    assert decay.handles and monitor.history.records


@pytest.mark.parametrize("name", ["BoringModel", "ManualOptimBoringModel"])
def test_the_models_that_lightning_tests_itself_with(name):
    """Native and by hook alike, in automatic and in manual optimization."""
    from lightning.pytorch.demos import boring_classes

    found = []
    for via in ("auto", "hook"):
        torch.manual_seed(0)
        model = getattr(boring_classes, name)()
        decay = WeightDecay(td.coupled(0.1), rules=td.policies.torch, via=via)
        trainer(decay, epochs=2, limit_train_batches=4, limit_val_batches=0).fit(model)
        (handle,) = decay.handles
        assert handle.steps(0) == 8 and handle.lowering["layer.weight"].route == ("native" if via == "auto" else "hook")
        found.append(weights(model))
    assert torch.equal(*found)


def test_the_other_name_of_the_package():
    """pytorch_lightning's Trainer takes them as well."""
    pl = pytest.importorskip("pytorch_lightning")

    class Twin(pl.LightningModule):
        __init__, training_step, configure_optimizers = (
            lambda self: (pl.LightningModule.__init__(self), setattr(self, "net", Small().net))[0],
            Small.training_step,
            Small.configure_optimizers,
        )

    model = Twin()
    quiet = dict(enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
    pl.Trainer(max_epochs=2, callbacks=[WeightDecay(td.l1(0.1))], logger=False, accelerator="cpu", **quiet).fit(
        model, batches()
    )
    assert torch.equal(weights(model), plain(Small(), td.l1(0.1)))


@pytest.mark.parametrize("attach_first", [True, False])
def test_fabric_resumes_in_either_order(attach_first, tmp_path):
    """`td.attach` takes what `fabric.setup` returns, before or after the checkpoint is loaded."""

    def begin():
        torch.manual_seed(0)
        model = nn.Linear(4, 2)
        return fabric.setup(model, optim.AdamW(model.parameters(), lr=0.1))

    def train(model, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            fabric.backward(model(torch.ones(3, 4)).square().mean())
            optimizer.step()

    fabric = lightning.Fabric(accelerator="cpu", devices=1)
    decay = td.decoupled(0.5).replace(schedule=td.schedules.linear(1.0, 0.0, 8))
    model, optimizer = begin()
    td.attach(optimizer, decay, model=model)
    train(model, optimizer, 3)
    fabric.save(tmp_path / "a.ckpt", {"model": model, "optimizer": optimizer})
    train(model, optimizer, 3)
    again, other = begin()
    if attach_first:
        td.attach(other, decay, model=again)
    fabric.load(tmp_path / "a.ckpt", {"model": again, "optimizer": other})
    if not attach_first:
        td.attach(other, decay, model=again)
    train(again, other, 3)
    assert torch.equal(weights(model), weights(again))
