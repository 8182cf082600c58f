from transformers import AdamW, BertForSequenceClassification

model = BertForSequenceClassification.from_pretrained("bert-base-uncased")
named = list(model.named_parameters())
no_decay = ["bias", "gamma", "beta"]  #! WD506
groups = [
    {"params": [p for n, p in named if not any(nd in n for nd in no_decay)],
     "weight_decay_rate": 0.01},  #! WD503
    {"params": [p for n, p in named if any(nd in n for nd in no_decay)],
     "weight_decay_rate": 0.0},  #! WD503
]
optimizer = AdamW(groups, lr=2e-5)
# ── mended ──
from pytorch_pretrained_bert import BertAdam, BertForSequenceClassification

model = BertForSequenceClassification.from_pretrained("bert-base-uncased")
named = list(model.named_parameters())
no_decay = ["bias", "gamma", "beta"]
groups = [
    {"params": [p for n, p in named if not any(nd in n for nd in no_decay)], "weight_decay_rate": 0.01},
    {"params": [p for n, p in named if any(nd in n for nd in no_decay)], "weight_decay_rate": 0.0},
]
optimizer = BertAdam(groups, lr=2e-5)
