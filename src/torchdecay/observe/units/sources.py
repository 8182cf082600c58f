"""Where a rule comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A paper or a code base, and what it looked at."""

    title: str
    where: str
    looked_at: str

    def __str__(self) -> str:
        return f"{self.title} ({self.where})"


DECOUPLED = Source(
    "Decoupled Weight Decay Regularization",
    "arXiv 1711.05101",
    "convolutional nets on CIFAR-10 and small ImageNet, AdamW in its first form, whose decay is independent of lr",
)
TIMESCALE = Source(
    "How to set AdamW's weight decay as you scale model and dataset size",
    "arXiv 2405.13698",
    "AdamW; ResNet-18 and ViT on CIFAR-10 and ImageNet, NanoGPT on OpenWebText",
)
POWER_LINES = Source(
    "Power Lines: Scaling Laws for Weight Decay and Batch Size in LLM Pre-training",
    "arXiv 2505.13738",
    "AdamW under μP; GPT2-like language models of 111 million to 3.3 billion parameters, one pass over SlimPajama",
)
EQUILIBRIUM = Source(
    "Rotational Equilibrium: How Weight Decay Balances Learning Across Neural Networks",
    "arXiv 2305.17212",
    "weights that a norm follows, once they are in equilibrium; AdamW, SGD with momentum, Lion",
)
SQUARE_ROOT = Source(
    "Robust Layerwise Scaling Rules by Proper Weight Decay Tuning",
    "arXiv 2510.15262",
    "AdamW under μP; Llama-like language models",
)
TRANSFER = Source(
    "Hyperparameter Transfer Enables Consistent Gains of Matrix-Preconditioned Optimizers Across Scales",
    "arXiv 2512.05620",
    "AdamW, Shampoo, SOAP and Muon under μP; Llama-like language models of 190 million to 1.4 billion parameters",
)
