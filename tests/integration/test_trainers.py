"""Trainers of other libraries by the lines of the page of recipes: a run that is resumed ends with the same bits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchdecay as td

pytestmark = pytest.mark.peers
RAMP = td.decoupled(0.5, schedule=td.schedules.linear(1.0, 0.0, 12))


def same(one, other):
    return all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))


def test_trl(tmp_path):
    """`decayed(SFTTrainer)`, with a reference that stands in the checkpoint."""
    trl = pytest.importorskip("trl", reason="TRL is not installed")
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from torchdecay.integrations.transformers import decayed

    words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "[UNK]": 2, "[PAD]": 3, "[EOS]": 4}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", eos_token="[EOS]")
    config = LlamaConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=5)
    rows = Dataset.from_dict({"text": ["a b a b", "b a"] * 8})
    made = []
    for resumed in (None, str(tmp_path / "checkpoint-2")):
        torch.manual_seed(0)
        args = trl.SFTConfig(
            str(tmp_path), max_steps=4, save_steps=2, per_device_train_batch_size=2, report_to="none", use_cpu=True,
            bf16=False, learning_rate=0.1, disable_tqdm=True,
        )  # fmt: skip
        trainer = decayed(trl.SFTTrainer)(
            model=LlamaForCausalLM(config), args=args, train_dataset=rows,
            processing_class=tokenizer, decay=td.toward("initial", 0.5),
        )  # fmt: skip
        trainer.train(resume_from_checkpoint=resumed)
        assert trainer.decay_handle.steps(0) == 4
        made.append(trainer.model)
    assert same(*made)


def test_mmengine(tmp_path, monkeypatch):
    """A hook of the Runner attaches to its OptimWrapper, before the checkpoint is loaded."""
    pytest.importorskip("mmengine", reason="mmengine is not installed")
    from mmengine.hooks import Hook
    from mmengine.model import BaseModel
    from mmengine.optim import OptimWrapper
    from mmengine.runner import Runner

    class Net(BaseModel):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))

        def forward(self, x, mode="loss"):
            return {"loss": self.net(x).square().mean()}

    class Decay(Hook):
        def before_train(self, runner):
            self.handle = td.attach(runner.optim_wrapper, RAMP, model=runner.model)

    # Its own checkpoints are pickles, which torch reads since 2.6 only where that is allowed.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    rows = [torch.randn(4, generator=torch.Generator().manual_seed(seed)) for seed in range(12)]

    def run(folder, epochs, resume=False):
        net, hook = Net(), Decay()
        Runner(
            net, str(folder), torch.utils.data.DataLoader(rows, 4, collate_fn=lambda batch: {"x": torch.stack(batch)}),
            train_cfg={"by_epoch": True, "max_epochs": epochs}, custom_hooks=[hook], resume=resume, log_level="ERROR",
            optim_wrapper=OptimWrapper(torch.optim.AdamW(net.parameters(), lr=0.1)),
            experiment_name=f"{folder.name}{epochs}{resume}",
        ).train()  # fmt: skip
        return net, hook.handle

    whole, _ = run(tmp_path / "whole", 4)
    run(tmp_path / "half", 2)
    again, handle = run(tmp_path / "half", 4, resume=True)
    assert same(whole, again) and handle.steps(0) == 12
