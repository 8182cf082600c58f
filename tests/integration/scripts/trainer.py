"""transformers' Trainer; "lora" as argument puts PEFT's adapters on the model."""

import os
import sys
import tempfile

import torch
from weights import fingerprint

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

torch.manual_seed(0)
model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=32, n_positions=16))
if "lora" in sys.argv:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(model, LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
ids = torch.randint(0, 32, (16, 8), generator=torch.Generator().manual_seed(1))
data = [{"input_ids": one, "labels": one} for one in ids]
with tempfile.TemporaryDirectory() as folder:
    given = TrainingArguments(
        output_dir=folder, per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=4, weight_decay=0.1,
        learning_rate=1e-2, report_to=[], save_strategy="no", disable_tqdm=True, logging_strategy="no", use_cpu=True,
        seed=0,
    )  # fmt: skip
    Trainer(model=model, args=given, train_dataset=data).train()
print(fingerprint(model))
