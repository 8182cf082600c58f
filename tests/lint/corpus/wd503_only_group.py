import torch

opt = torch.optim.AdamW([{"params": d, "weigth_decay": 0.1}])  #! WD503
# ── mended ──
import torch

opt = torch.optim.AdamW([{"params": d, "old_weight_decay": 0.1}])
