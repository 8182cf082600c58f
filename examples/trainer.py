"""A Trainer of transformers as people write it, which knows nothing of torchdecay: digits with wrong labels."""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from transformers import Trainer, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("--weight-decay", type=float, default=0.0)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--out", default="trainer-out")
options = parser.parse_args()

images, labels = load_digits(return_X_y=True)
images, labels = torch.tensor(images / 16, dtype=torch.float32) - 0.3, torch.tensor(labels)
rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(options.seed))
wrong = rows[:400]
labels[wrong] = labels[wrong.flip(0)]


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))

    def forward(self, pixels, labels):
        logits = self.layers(pixels)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def part(which):
    return [{"pixels": images[row], "labels": labels[row]} for row in which]


torch.manual_seed(options.seed)
trainer = Trainer(
    model=Classifier(),
    args=TrainingArguments(
        output_dir=options.out,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=64,
        per_device_eval_batch_size=512,
        learning_rate=1e-3,
        weight_decay=options.weight_decay,
        seed=options.seed,
        eval_strategy="epoch",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    ),
    train_dataset=part(rows[:1000]),
    eval_dataset=part(rows[1000:]),
)
trainer.train()
