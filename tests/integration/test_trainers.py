"""Trainers of other libraries by the lines of the page of recipes: a run that is resumed ends with the same bits.

They are those of the decay that is written beside the trainer with torch alone, too.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import torchdecay as td

pytestmark = pytest.mark.peers
RAMP = td.decoupled(0.5, schedule=td.schedules.linear(1.0, 0.0, 12))


def same(one, other):
    return all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))


def natively(adam, model, wd):
    """AdamW of torch in the place of an Adam: its own weight_decay, on what a plan decays."""
    (group,), matrices = adam.param_groups, decayed(model)
    rest = [p for p in group["params"] if all(p is not one for one in matrices)]
    groups = [{"params": matrices, "weight_decay": wd}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, **{key: group[key] for key in ("lr", "betas", "eps")})


def cautiously(adam, model, wd):
    """A pass before the step of an Adam: only where the update, which has the sign of the mean, shrinks too."""

    def pull(*_):
        (group,) = adam.param_groups
        for p in decayed(model):
            mean = adam.state[p].get("exp_avg", torch.zeros_like(p)).lerp(p.grad, 1 - group["betas"][0])
            p.data.addcmul_(p.data, (mean * p.data >= 0).to(p), value=-group["lr"] * wd)

    adam.register_step_pre_hook(pull)
    return adam


def decayed(model):
    """The matrices but for embeddings; a target network is none of the optimizer's."""
    named = model.named_parameters()
    return [p for name, p in named if p.ndim > 1 and not any(word in name for word in ("wte", "embed", "target"))]


BY_HAND = pytest.mark.parametrize(
    ("form", "by_hand"), [(td.decoupled, natively), (td.cautious, cautiously)], ids=["decoupled", "cautious"]
)


@BY_HAND
def test_trl(form, by_hand, tmp_path):
    """`decayed(SFTTrainer)`, with a reference that stands in the checkpoint."""
    trl = pytest.importorskip("trl", reason="TRL is not installed")
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from torchdecay.integrations.transformers import decayed as decayed_trainer

    words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "[UNK]": 2, "[PAD]": 3, "[EOS]": 4}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", eos_token="[EOS]")
    config = LlamaConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=5)
    rows = Dataset.from_dict({"text": ["a b a b", "b a"] * 8})

    def train(resumed=None, by_hand=None, **decay):
        torch.manual_seed(0)
        args = trl.SFTConfig(
            str(tmp_path), max_steps=4, save_steps=2, per_device_train_batch_size=2, report_to="none", use_cpu=True,
            bf16=False, learning_rate=0.1, disable_tqdm=True, save_strategy="steps" if decay else "no",
            optim="adamw_torch",
        )  # fmt: skip
        model = LlamaForCausalLM(copy.deepcopy(config))  # The trainer writes the padding into the config.
        if by_hand is not None:
            adam = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
            decay = {"optimizers": (by_hand(adam, model, 3.0), None)}
        kind = decayed_trainer(trl.SFTTrainer) if "decay" in decay else trl.SFTTrainer
        trainer = kind(model=model, args=args, train_dataset=rows, processing_class=tokenizer, **decay)
        trainer.train(resume_from_checkpoint=resumed)
        assert "decay" not in decay or trainer.decay_handle.steps(0) == 4
        return trainer.model

    ours = train(decay=form(3.0))
    assert same(ours, train(by_hand=by_hand)) and not same(ours, train())

    toward = td.toward("initial", 0.5)
    assert same(train(decay=toward), train(str(tmp_path / "checkpoint-2"), decay=toward))


@BY_HAND
def test_mmengine(form, by_hand, tmp_path, monkeypatch):
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
        def __init__(self, decay):
            self.decay = decay

        def before_train(self, runner):
            self.handle = td.attach(runner.optim_wrapper, self.decay, model=runner.model)

    # Its own checkpoints are pickles, which torch reads since 2.6 only where that is allowed.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    rows = [torch.randn(4, generator=torch.Generator().manual_seed(seed)) for seed in range(12)]

    def run(name, epochs, *hooks, resume=False, by_hand=lambda adam, *_: adam):
        net = Net()
        adam = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.0)
        Runner(
            net, str(tmp_path / name), torch.utils.data.DataLoader(rows, 4, collate_fn=lambda x: {"x": torch.stack(x)}),
            train_cfg={"by_epoch": True, "max_epochs": epochs}, custom_hooks=hooks, resume=resume, log_level="ERROR",
            optim_wrapper=OptimWrapper(by_hand(adam, net, 3.0)), experiment_name=f"{tmp_path.name}{name}{epochs}",
        ).train()  # fmt: skip
        return net

    ours = run("ours", 4, Decay(form(3.0)))
    assert same(ours, run("hand", 4, by_hand=by_hand)) and not same(ours, run("bare", 4))

    decay = form(0.5, schedule=RAMP.schedule)
    whole = run("whole", 4, Decay(decay))
    run("half", 2, Decay(decay))
    again = run("half", 4, hook := Decay(decay), resume=True)
    assert same(whole, again) and hook.handle.steps(0) == 12


@BY_HAND
@pytest.mark.parametrize(("kind", "steps"), [("PPO", 16), ("DQN", 24)])
def test_stable_baselines3(kind, steps, form, by_hand, tmp_path):
    """A saved agent is loaded and attached to again; its replay buffer has a file of its own."""
    sb3 = pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed")
    options = {
        "PPO": {"n_steps": 32, "batch_size": 16, "n_epochs": 2},
        "DQN": {"learning_starts": 16, "batch_size": 16, "buffer_size": 256, "target_update_interval": 16},
    }[kind]

    def begin():
        return getattr(sb3, kind)("MlpPolicy", "CartPole-v1", device="cpu", learning_rate=0.01, seed=0, **options)

    def learn(agent, seed):
        agent.set_random_seed(seed)
        agent.learn(64)

    agent, hand, bare = begin(), begin(), begin()
    td.attach(agent.policy.optimizer, form(3.0), model=agent.policy)
    hand.policy.optimizer = by_hand(hand.policy.optimizer, hand.policy, 3.0)
    for one in (agent, hand, bare):
        learn(one, 1)
    assert same(agent.policy, hand.policy) and not same(agent.policy, bare.policy)

    agent, decay = begin(), form(3.0, schedule=td.schedules.linear(1.0, 0.0, 40))
    handle = td.attach(agent.policy.optimizer, decay, model=agent.policy)
    with td.Monitor(agent.policy.optimizer, model=agent.policy, every_steps=1) as monitor:
        learn(agent, 1)
    assert not monitor.history.events
    agent.save(tmp_path / "agent.zip")
    if kind == "DQN":
        agent.save_replay_buffer(tmp_path / "buffer.pkl")
    learn(agent, 2)
    again = type(agent).load(tmp_path / "agent.zip", env=agent.get_env(), device="cpu")
    if kind == "DQN":
        again.load_replay_buffer(tmp_path / "buffer.pkl")
    resumed = td.attach(again.policy.optimizer, decay, model=again.policy)
    learn(again, 2)
    assert same(agent.policy, again.policy) and resumed.steps(0) == handle.steps(0) == steps


@BY_HAND
def test_litgpt(form, by_hand, tmp_path):
    """A GPT of LitGPT under Fabric."""
    litgpt = pytest.importorskip("litgpt", reason="LitGPT is not installed")
    import lightning

    fabric = lightning.Fabric(accelerator="cpu", devices=1)
    config = litgpt.Config(n_layer=1, n_head=2, n_embd=16, block_size=16, vocab_size=32, padded_vocab_size=32)

    def begin(decay=None):
        torch.manual_seed(0)
        model = fabric.setup(litgpt.GPT(config))
        optimizer = fabric.setup_optimizers(torch.optim.Adam(model.parameters(), lr=0.01))
        if decay is not None:
            td.attach(optimizer, decay, model=model)
        return model, optimizer

    def train(model, optimizer, steps, backward=fabric.backward):
        for step in steps:
            tokens = torch.randint(32, (2, 9), generator=torch.Generator().manual_seed(step))
            backward(nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()))
            optimizer.step()
            optimizer.zero_grad()
        return model

    torch.manual_seed(0)
    hand = litgpt.GPT(config)
    train(hand, by_hand(torch.optim.Adam(hand.parameters(), lr=0.01), hand, 3.0), range(6), torch.Tensor.backward)
    assert same(train(*begin(form(3.0)), range(6)), hand) and not same(train(*begin(), range(6)), hand)

    decay = form(3.0, schedule=RAMP.schedule)
    model, optimizer = begin(decay)
    train(model, optimizer, range(3))
    fabric.save(tmp_path / "half.ckpt", {"model": model, "optimizer": optimizer})
    again, other = begin(decay)
    fabric.load(tmp_path / "half.ckpt", {"model": again, "optimizer": other})
    assert same(train(model, optimizer, range(3, 6)), train(again, other, range(3, 6)))
