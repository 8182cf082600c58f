import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("EleutherAI/pythia-70m")
skip = ["bias", "LayerNorm.weight"]  #! WD506
params = [
    {"params": [p for n, p in model.named_parameters() if not any(s in n for s in skip)], "weight_decay": 0.1},
    {"params": [p for n, p in model.named_parameters() if any(s in n for s in skip)], "weight_decay": 0.0},
]
opt = torch.optim.AdamW(params, lr=1e-4)
# ── mended ──
import torch
from transformers import AutoModelForMaskedLM

model = AutoModelForMaskedLM.from_pretrained("bert-base-uncased")
skip = ["bias", "LayerNorm.weight"]
params = [
    {"params": [p for n, p in model.named_parameters() if not any(s in n for s in skip)], "weight_decay": 0.1},
    {"params": [p for n, p in model.named_parameters() if any(s in n for s in skip)], "weight_decay": 0.0},
]
opt = torch.optim.AdamW(params, lr=1e-4)
