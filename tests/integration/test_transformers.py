"""`decayed` Trainers on the real library: who decays, what is said, and runs that go on as if nothing had happened."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
from torch import nn

import torchdecay as td

pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")
from transformers import Trainer, TrainingArguments
from transformers.utils import logging

from torchdecay.integrations.transformers import DecayCallback, decayed

pytestmark = pytest.mark.peers
FORM = td.toward("initial", 0.5)
ROWS = [{"x": x, "labels": x[:2]} for x in torch.randn(24, 4, generator=torch.Generator().manual_seed(1))]


class Small(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.norm, self.last = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)

    def forward(self, x, labels):
        return {"loss": (self.last(self.norm(self.first(x))) - labels).square().mean()}


class Own(Trainer):
    def __init__(self, *args, extra=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.extra = extra


def arguments(folder, **options):
    known = dict(
        output_dir=str(folder), per_device_train_batch_size=8, max_steps=6, learning_rate=0.1, report_to="none",
        lr_scheduler_type="linear", disable_tqdm=True, use_cpu=True, save_strategy="no", logging_steps=2,
    )  # fmt: skip
    return TrainingArguments(**known | options)


def trained(folder, model=None, *, base=Trainer, resumed=None, callbacks=None, model_init=None, settings=None, **decay):
    trainer = decayed(base)(
        model=None if model_init else model or Small(),
        args=arguments(folder, **settings or {}),
        train_dataset=ROWS,
        callbacks=callbacks,
        model_init=model_init,
        **decay,
    )
    trainer.train(resume_from_checkpoint=resumed)
    return trainer


def weights(trainer):
    return torch.cat([param.detach().flatten() for param in trainer.model.parameters()])


@pytest.fixture
def said():
    """What the log of transformers warns of."""
    found, handler = [], __import__("logging").Handler()
    handler.emit = lambda record: found.append(record.getMessage())
    logging.get_logger("transformers").addHandler(handler)
    logging.get_logger("transformers").warning_once.cache_clear()
    yield found
    logging.get_logger("transformers").removeHandler(handler)


@pytest.mark.parametrize("decay", [td.independent(0.2), td.cautious(0.2), FORM])
def test_the_numbers_are_those_of_an_attached_trainer_by_hand(decay, tmp_path):
    """Bit for bit, with the batch norm spared, which the Trainer's own rule decays; native where it can be."""
    made = trained(tmp_path, decay=decay)
    model = Small()
    optimizer = torch.optim.AdamW(td.param_groups(model, decay), lr=0.1, fused=True)
    td.attach(optimizer, decay, model=model)
    by_hand = Trainer(model=model, args=arguments(tmp_path), train_dataset=ROWS, optimizers=(optimizer, None))
    by_hand.train()
    assert torch.equal(weights(made), weights(by_hand))
    assert {row.name for row in made.decay_handle.lowering if row.decay} == {"first.weight", "last.weight"}
    routes = {row.route for row in made.decay_handle.lowering if row.decay}
    assert routes == {"native"} or decay != td.independent(0.2)


@pytest.mark.parametrize("decay", [td.independent(0.2), FORM, td.forms.constrained(kappa_initial=0.9)])
def test_a_run_that_is_resumed_goes_on_as_it_would_have(decay, tmp_path):
    """From the files of a checkpoint alone, records included."""
    settings = dict(save_strategy="steps", save_steps=3)
    path = str(tmp_path / "run.jsonl")
    whole = trained(tmp_path, decay=decay, settings=settings, callbacks=[DecayCallback(2, path=path)])
    again = trained(
        tmp_path, Small(seed=5), decay=decay, settings=settings, resumed=str(tmp_path / "checkpoint-3"),
        callbacks=[DecayCallback(2, path=str(tmp_path / "again.jsonl"))],
    )  # fmt: skip
    assert torch.equal(weights(whole), weights(again))
    assert again.decay_handle.steps(0) == 6
    assert td.History.load(tmp_path / "again.jsonl").steps[0] >= 4


def test_without_a_decay_the_argument_is_taken_and_that_is_said(tmp_path, said):
    """Never ignored silently, and once; with one it does not count."""
    made = trained(tmp_path, settings=dict(weight_decay=0.03))
    made.train()
    assert {row.decay for row in made.decay_handle.lowering if row.decay} == {td.native(0.03)}
    assert [one for one in said if "decay" in one] == [
        "decay=None takes args.weight_decay=0.03, by torchdecay's rules."
    ]
    said.clear()
    trained(tmp_path, decay=td.l1(0.1), settings=dict(weight_decay=0.03))
    (one,) = [one for one in said if "decay" in one]
    assert one == "decay=l1(0.1) is carried out; args.weight_decay=0.03 beside it does not count."
    logging.get_logger("transformers").warning_once.cache_clear()
    said.clear()
    model = Small()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    td.attach(optimizer, td.cautious(0.1), model=model)
    settings = arguments(tmp_path, weight_decay=0.03, max_steps=1)
    own = Trainer(model, settings, train_dataset=ROWS, optimizers=(optimizer, None), callbacks=[DecayCallback(1)])
    own.train()
    (one,) = [one for one in said if "decay" in one]
    assert one == "decay=cautious(0.1) is carried out; args.weight_decay=0.03 beside it does not count."


def test_records_are_logged_with_the_loss(tmp_path):
    """In a decayed Trainer for every reporter, in another in its own log."""
    seen = []

    class Reporter(__import__("transformers").TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            seen.append(dict(logs))

    made = trained(tmp_path, decay=td.decoupled(0.1), callbacks=[Reporter(), DecayCallback(every_n_steps=2)])
    assert [one["step"] for one in made.state.log_history if "decay/weight/planned_shrink" in one] == [2, 4, 6]
    assert sum("decay/weight/planned_shrink" in one for one in seen) == 3
    plain = Trainer(
        model=Small(), args=arguments(tmp_path, weight_decay=0.1), train_dataset=ROWS, callbacks=[DecayCallback()]
    )
    plain.train()
    assert sum("decay/norm/planned_shrink" in one for one in plain.state.log_history) == 3
    made.state.stateful_callbacks = {"DecayCallback": DecayCallback(3, "block", tmp_path / "a").state()}
    made.state.save_to_json(tmp_path / "state.json")
    state = json.loads((tmp_path / "state.json").read_text())["stateful_callbacks"]["DecayCallback"]
    assert DecayCallback.from_state(state).state() == state


def test_one_class_per_base_which_can_be_pickled(tmp_path):
    """And deep-copied; a class of classes that exist is not made anew."""
    assert decayed(Own) is decayed(Own) is decayed(decayed(Own)) and issubclass(decayed(Own), Own)
    assert pickle.loads(pickle.dumps(decayed(Own))) is decayed(Own) is copy.deepcopy(decayed(Own))
    made = trained(tmp_path, base=Own, decay=0.1, settings=dict(max_steps=1))
    assert type(made).__name__ == "DecayedOwn" and made.extra is None
    with pytest.raises(td.ApplyError, match="the class first"):
        decayed(Small())


def test_what_can_not_be_is_refused(tmp_path):
    """A penalty that nobody adds; a plan beside another; a checkpoint of another plan, with the difference."""
    with pytest.raises(td.ApplyError, match="would decay through the loss"):
        trained(tmp_path, decay=td.penalized(0.1))
    model = Small()
    optimizer = torch.optim.AdamW(model.parameters())
    td.attach(optimizer, 0.1, model=model)
    with pytest.raises(td.ApplyError, match="attached to this optimizer already"):
        decayed(Trainer)(
            model=model, args=arguments(tmp_path), train_dataset=ROWS, optimizers=(optimizer, None), decay=0.1
        ).train()
    with pytest.raises(td.ApplyError, match="every_n_steps is 0"):
        DecayCallback(every_n_steps=0)
    with pytest.raises(td.DecayError):
        decayed(Trainer)(model=model, args=arguments(tmp_path), decay="a lot")
    trained(tmp_path, decay=td.decoupled(0.1), settings=dict(save_strategy="steps", save_steps=3))
    with pytest.raises(td.LoadError, match=r"cautious\(0\.1\)"):
        trained(tmp_path, decay=td.cautious(0.1), resumed=str(tmp_path / "checkpoint-3"))


def test_each_trial_of_a_search_has_a_decay_of_its_own(tmp_path):
    """args.weight_decay is what the trial set, and what is attached."""
    pytest.importorskip("optuna", reason="optuna is not installed")
    seen = []

    class Looking(Trainer):
        def evaluate(self, *args, **kwargs):
            seen.append({row.decay.coefficient for row in self.decay_handle.lowering if row.decay})
            return {"eval_loss": 0.0}

    made = decayed(Looking)(
        model_init=lambda: Small(), args=arguments(tmp_path, max_steps=1), train_dataset=ROWS, eval_dataset=ROWS
    )
    made.hyperparameter_search(
        lambda trial: {"weight_decay": trial.suggest_categorical("weight_decay", [0.5])}, n_trials=2,
        compute_objective=lambda metrics: 0.0, backend="optuna",
    )  # fmt: skip
    assert seen[-2:] == [{0.5}, {0.5}]


def test_lora_adapters_of_peft(tmp_path):
    """Of a model whose base is frozen the adapters' matrices decay, and nothing else is asked for."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=20)
    model = peft.get_peft_model(
        BertForSequenceClassification(config), peft.LoraConfig(target_modules=["query"], r=2, task_type="SEQ_CLS")
    )
    rows = [{"input_ids": torch.arange(4), "labels": torch.tensor(1)} for _ in range(8)]
    made = decayed(Trainer)(
        model=model, args=arguments(tmp_path, max_steps=2), train_dataset=rows, decay=td.decoupled(0.1)
    )
    made.train()
    decays = {row.name.rpartition("query.")[2] for row in made.decay_handle.lowering if row.decay}
    assert decays >= {"lora_A.default.weight", "lora_B.default.weight"}
    assert {row.route for row in made.decay_handle.lowering if row.decay} == {"native"}
