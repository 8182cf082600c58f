import torch
from transformers import AutoModel

model = AutoModel.from_pretrained("a")
opt = torch.optim.SGD(model.parameters(), lr=0.1)  #! WD507
if finetune:
    model = AutoModel.from_pretrained("b")
train(model, opt)
# ── mended ──
import torch
from transformers import AutoModel

model = AutoModel.from_pretrained("a")
opt = torch.optim.SGD(model.parameters(), lr=0.1)
train(model, opt)
model = AutoModel.from_pretrained("b")
opt = torch.optim.SGD(model.parameters(), lr=0.1)
train(model, opt)
