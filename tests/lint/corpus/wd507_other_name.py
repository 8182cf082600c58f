import torch
from peft import get_peft_model

optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0)  #! WD507
peft_model = get_peft_model(model, config)
for batch in loader:
    peft_model(**batch).loss.backward()
    optimizer.step()
# ── mended ──
import torch
from peft import get_peft_model

peft_model = get_peft_model(model, config)
optimizer = torch.optim.AdamW(peft_model.parameters(), lr=1e-4, weight_decay=0.0)
for batch in loader:
    peft_model(**batch).loss.backward()
    optimizer.step()
