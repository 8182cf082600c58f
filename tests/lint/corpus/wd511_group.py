import torch.optim

opt = torch.optim.Muon([{"params": net.parameters(), "lr": 0.02}], weight_decay=0.0)  #! WD511
# ── mended ──
import torch.optim

hidden = [p for n, p in net.blocks.named_parameters() if p.ndim == 2]
opt = torch.optim.Muon([{"params": hidden, "lr": 0.02}], weight_decay=0.0)
