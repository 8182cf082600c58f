"""LoRA with peft, and the optimizer built one line too early.

`get_peft_model` freezes the base and adds the adapters after the optimizer took its parameters: it holds what no longer
trains, and no adapter. The loss stays where it is, and nothing says why.

Found: WD104
"""

from __future__ import annotations

import torch
from torch import nn

import torchdecay as td


def base() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
        )
    )


def with_adapters(model: nn.Module) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))


def setup() -> tuple[torch.optim.Optimizer, nn.Module]:
    model = base()
    optimizer = torch.optim.AdamW(td.param_groups(model, 0.1), lr=1e-4)
    return optimizer, with_adapters(model)


def fixed() -> tuple[torch.optim.Optimizer, nn.Module]:
    model = with_adapters(base())
    return torch.optim.AdamW(td.param_groups(model, 0.1), lr=1e-4), model
