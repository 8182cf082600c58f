import torch

hidden = [p for p in model.parameters() if p.ndim == 2]  #! WD516
rest = [p for p in model.parameters() if p.ndim == 1]
opts = [torch.optim.Muon(hidden, lr=0.02), torch.optim.AdamW(rest, lr=3e-4, weight_decay=0.0)]
# ── mended ──
import torch

hidden = [p for p in model.parameters() if p.ndim == 2]
rest = [p for p in model.parameters() if p.ndim != 2]
opts = [torch.optim.Muon(hidden, lr=0.02), torch.optim.AdamW(rest, lr=3e-4, weight_decay=0.0)]
