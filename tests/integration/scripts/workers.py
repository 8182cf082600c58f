"""Batches from workers that are spawned, and so start Python anew."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from weights import fingerprint


class Squares(Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, index):
        return torch.full((4,), float(index) / 16)


def main():
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    loader = DataLoader(Squares(), batch_size=4, shuffle=True, num_workers=1, multiprocessing_context="spawn")
    for batch in loader:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
    print(fingerprint(model))


if __name__ == "__main__":
    main()
