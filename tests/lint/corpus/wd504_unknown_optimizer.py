from pytorch_pretrained_bert.optimization import BertAdam

trainable = list(filter(lambda pair: pair[1].requires_grad, model.named_parameters()))
no_decay = ['bias', 'gamma', 'beta']
grouped = [
    {'params': [p for n, p in trainable if n not in no_decay], 'weight_decay_rate': 0.01},  #! WD504
    {'params': [p for n, p in trainable if n in no_decay], 'weight_decay_rate': 0.0},  #! WD504
]
optimizer = BertAdam(grouped, lr=5e-5, warmup=0.1)
# ── mended ──
import torch

no_decay = [n for n, p in model.named_parameters() if n.endswith(".bias") or "norm" in n]
params = [
    {"params": [p for n, p in model.named_parameters() if n not in no_decay], "weight_decay": args.weight_decay},
    {"params": [p for n, p in model.named_parameters() if n in no_decay], "weight_decay": 0.0},
]
opt = torch.optim.AdamW(params, lr=args.base_lr, betas=(0.9, 0.95))
