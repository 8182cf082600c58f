"""skorch: scikit-learn chooses the form of decay and its value.

Run it: python examples/integrations/skorch_search.py
"""

from __future__ import annotations

import torch
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from torch import nn

import torchdecay as td
from torchdecay.integrations.skorch import WeightDecay


def module() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2), nn.Softmax(-1))


def main() -> td.History:
    """Search, train the best on, and return what decay did."""
    torch.manual_seed(0)
    X, y = make_classification(200, 16, flip_y=0.2, random_state=0)
    X = X.astype("float32")
    net = NeuralNetClassifier(
        module, optimizer=torch.optim.AdamW, lr=0.01, max_epochs=5, verbose=0, train_split=None,
        callbacks=[("decay", WeightDecay(td.decoupled(1)))],
    )  # fmt: skip
    search = GridSearchCV(net, {"callbacks__decay__decay": [td.decoupled(1), td.decoupled(3), td.cautious(1)]}, cv=3)
    search.fit(X, y)
    print("best:", search.best_params_)
    best = search.best_estimator_
    with td.Monitor(best.optimizer_, model=best.module_, every_steps=2) as monitor:
        best.partial_fit(X, y)
    return monitor.history


if __name__ == "__main__":
    print(main())
