from apex.optimizers import FusedAdam

other = FusedAdam(head.weight, lr=1e-3, adam_w_mode=False, weight_decay=0.1)  #! WD502
# ── mended ──
from apex.optimizers import FusedAdam

other = FusedAdam(head.weight, lr=1e-3, weight_decay=0.1)
