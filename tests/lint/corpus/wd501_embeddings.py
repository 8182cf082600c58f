import torch
from torch import nn


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)


class Factors(nn.Module):
    def __init__(self):
        super().__init__()
        self.users = nn.Embedding(10, 8)
        self.head = Head()


net = Factors()
opt = torch.optim.AdamW(net.parameters(), weight_decay=0.1)  #! WD501
# ── mended ──
import torch
from torch import nn

words = nn.Embedding(10, 3)
first = torch.optim.AdamW(words.parameters(), weight_decay=0.1)


class Factors(nn.Module):
    def __init__(self):
        super().__init__()
        self.users, self.items = nn.Embedding(10, 8), nn.EmbeddingBag(10, 8)
        self.norm = nn.LayerNorm(8, elementwise_affine=False)
        self.walk = nn.LSTM(8, 8, bias=False)
        self.loss = nn.CrossEntropyLoss()


net = Factors()
second = torch.optim.AdamW(net.parameters(), weight_decay=0.1)
