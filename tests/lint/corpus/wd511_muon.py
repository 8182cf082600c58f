import torch
from muon import Muon as MuonOptimizer

params = list(model.parameters())
opt = MuonOptimizer(params, lr=0.02, momentum=0.95)  #! WD511
# ── mended ──
import torch
from muon import Muon as MuonOptimizer

params = [p for p in model.blocks.parameters() if p.ndim == 2]
opt = MuonOptimizer(params, lr=0.02, momentum=0.95)
