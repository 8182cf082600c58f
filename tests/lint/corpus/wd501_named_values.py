from torch.optim import *

optimizer = AdamW(dict(model.named_parameters()).values(), lr=1e-3)  #! WD501
# ── mended ──
from mylib.optim import *

optimizer = AdamW(dict(model.named_parameters()).values(), lr=1e-3)
