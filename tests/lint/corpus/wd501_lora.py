import torch

params = list(filter(lambda p: p.requires_grad is True, unet.parameters()))
optimizer = torch.optim.AdamW(params, lr=1e-4, weight_decay=1e-2)  #! WD501
# ── mended ──
import torch
from peft import LoraConfig

unet.requires_grad_(False)
unet.add_adapter(LoraConfig(r=4))
params = list(filter(lambda p: p.requires_grad is True, unet.parameters()))
optimizer = torch.optim.AdamW(params, lr=1e-4, weight_decay=1e-2)
