"""transformers: the Trainer's class is wrapped once, and takes a decay.

Run it: python examples/integrations/transformers_trainer.py
"""

from __future__ import annotations

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import torchdecay as td
from torchdecay.integrations.transformers import DecayCallback, decayed


def main() -> td.History:
    """Train, and return what decay did."""
    torch.manual_seed(0)
    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, vocab_size=50)
    rows = [{"input_ids": torch.randint(50, (8,)), "labels": torch.tensor(i % 2)} for i in range(64)]
    args = TrainingArguments(
        "trainer-out", max_steps=16, learning_rate=1e-3, report_to="none", save_strategy="no", disable_tqdm=True,
        use_cpu=True,
    )  # fmt: skip
    callback = DecayCallback(every_n_steps=4)
    trainer = decayed(Trainer)(
        BertForSequenceClassification(config), args, train_dataset=rows, decay=td.decoupled(0.1), callbacks=[callback]
    )
    trainer.train()
    return callback.history


if __name__ == "__main__":
    print(main())
