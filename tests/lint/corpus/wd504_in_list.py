from torch.optim import AdamW

no_decay = ['bias', 'LayerNorm.bias', 'LayerNorm.weight']
param_optimizer = list(model.named_parameters())
optimizer_grouped_parameters = [
    {'params': [p for n, p in param_optimizer if n not in no_decay], 'weight_decay': 0.01},  #! WD504
    {'params': [p for n, p in param_optimizer if n in no_decay], 'weight_decay': 0.0},  #! WD504
]
optimizer = AdamW(optimizer_grouped_parameters, lr=3e-5)
# ── mended ──
from torch.optim import AdamW

no_decay = ['bias', 'LayerNorm.bias', 'LayerNorm.weight']
param_optimizer = list(model.named_parameters())
optimizer_grouped_parameters = [
    {'params': [p for n, p in param_optimizer if not any(nd in n for nd in no_decay)], 'weight_decay': 0.01},
    {'params': [p for n, p in param_optimizer if any(nd in n for nd in no_decay)], 'weight_decay': 0.0},
]
optimizer = AdamW(optimizer_grouped_parameters, lr=3e-5)
