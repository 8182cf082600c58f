"""A penalty in a loss is told from everything else that a loss is made of."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn import utils

import torchdecay as td
from torchdecay.errors import ApplyError
from torchdecay.observe.audit.penalties import penalized_parameters


class Parts:
    """A weight, a bias, a gain, and a batch."""

    def __init__(self) -> None:
        self.w, self.b, self.g = (nn.Parameter(torch.randn(*size)) for size in ((4, 3), (4,), (3,)))
        self.x, self.y = torch.randn(5, 3), torch.randn(5, 4)

    @property
    def data(self) -> Tensor:
        return F.mse_loss(F.linear(self.x, self.w, self.b), self.y)

    def penalized(self, loss: Tensor) -> str:
        found = penalized_parameters(loss)
        return "".join(name for name in "wbg" if id(getattr(self, name)) in found)


PENALTIES: dict[str, tuple[Callable[[Parts], Tensor], str]] = {
    "sum of squares": (lambda p: p.data + 0.1 * p.w.pow(2).sum(), "w"),
    "w * w": (lambda p: p.data + (p.w * p.w).sum(), "w"),
    "norm": (lambda p: p.data + p.w.norm(), "w"),
    "squared norm": (lambda p: p.data + 0.5 * p.w.norm() ** 2, "w"),
    "linalg norm": (lambda p: p.data + torch.linalg.vector_norm(p.w), "w"),
    "absolute values": (lambda p: p.data + p.w.abs().sum(), "w"),
    "mean square": (lambda p: p.data + p.w.square().mean(), "w"),
    "all parameters": (lambda p: p.data + sum(q.pow(2).sum() for q in (p.w, p.b)), "wb"),
    "td.penalty": (lambda p: p.data + td.penalty([p.w, p.b], l1=0.1, l2=0.1), "wb"),
    "foreach norms": (lambda p: p.data + torch.stack(torch._foreach_norm([p.w, p.b])).sum(), "wb"),
    "one vector": (lambda p: p.data + utils.parameters_to_vector([p.w, p.b]).norm(), "wb"),
    "dot": (lambda p: p.data + p.w.flatten() @ p.w.flatten(), "w"),
    "toward a reference": (lambda p: p.data + (p.w - torch.ones(4, 3)).pow(2).sum(), "w"),
    "mse toward zero": (lambda p: p.data + F.mse_loss(p.w, torch.zeros(4, 3)), "w"),
    "in another dtype": (lambda p: p.data + p.w.double().pow(2).sum(), "w"),
    "scaled and accumulated": (lambda p: 1024.0 * ((p.data + 0.1 * p.w.pow(2).sum()) / 4), "w"),
    "a contraction": (lambda p: p.data + torch.einsum("ij,ij->", p.w, p.w), "w"),
    "a contraction by rows": (lambda p: p.data + torch.einsum("ij,ij->i", p.w, p.w).sum(), "w"),
    "the trace of the square": (lambda p: p.data + 0.1 * torch.trace(p.w.T @ p.w), "w"),
    "the diagonal of the square": (lambda p: p.data + (p.w @ p.w.T).diagonal().sum(), "w"),
    "tensordot": (lambda p: p.data + torch.tensordot(p.w, p.w, 2), "w"),
    "inner product": (lambda p: p.data + torch.inner(p.w.flatten(), p.w.flatten()), "w"),
    "the largest entry": (lambda p: p.data + p.w.abs().max(), "w"),
    "l1 loss": (lambda p: p.data + F.l1_loss(p.w, torch.zeros(4, 3)), "w"),
    "smoothed groups": (lambda p: p.data + (p.w.pow(2).sum(0) + 1e-8).sqrt().sum(), "w"),
    "less a number": (lambda p: p.data + (p.w.pow(2).sum() - 1.0), "w"),
    "divided by how many": (lambda p: p.data + p.w.pow(2).sum() / p.w.numel(), "w"),
    "singular values": (lambda p: p.data + torch.linalg.matrix_norm(p.w, "nuc"), "w"),
    "the largest singular value": (lambda p: p.data + torch.linalg.matrix_norm(p.w, 2), "w"),
    "log cosh": (lambda p: p.data + torch.log(torch.cosh(p.w)).sum(), "w"),
    "of clamped weights": (lambda p: p.data + p.w.clamp(-1, 1).pow(2).sum(), "w"),
    "one term of two": (lambda p: p.data + p.w.norm() - 0.1 * p.b.norm(), "w"),
    "subtracted": (lambda p: p.data - -(p.w**2).sum(), "w"),
}
NO_PENALTIES: dict[str, Callable[[Parts], Tensor]] = {
    "the loss alone": lambda p: p.data,
    "product with data": lambda p: (p.x * p.g).sum(),
    "squared product with data": lambda p: (p.x * p.g).square().mean(),
    "dot with data": lambda p: torch.dot(p.g, p.x[0]) ** 2,
    "dot with data, turned": lambda p: torch.dot(p.x[0], p.g) ** 2,
    "quotient with data": lambda p: (p.x / p.g).pow(2).sum(),
    "sum with data": lambda p: ((p.x + p.g) ** 2).sum(),
    "difference from data": lambda p: (p.x - p.g).abs().mean(),
    "bias by hand": lambda p: (F.linear(p.x, p.w) + p.b.view(1, -1)).sum(),
    "weight norm": lambda p: F.linear(p.x, utils.parametrizations.weight_norm(nn.Linear(3, 4)).weight).sum(),
    "weight norm by hand": lambda p: F.mse_loss(F.linear(p.x, p.w / p.w.norm(dim=1, keepdim=True) * p.b[:, None]), p.y),
    "embedding": lambda p: F.embedding(torch.tensor([1, 2]), p.w).pow(2).sum(),
    "layer norm": lambda p: F.layer_norm(p.x, (3,), p.g, p.g).pow(2).sum(),
    "gated": lambda p: F.linear(p.x * p.g, p.w).square().mean(),
    "linear in the weight": lambda p: p.data + p.w.sum(),
    "loss weighed by exp(-s)": lambda p: torch.exp(-p.b[0]) * p.data + p.b[0],
    "losses weighed together": lambda p: (torch.exp(-p.b) * torch.stack([p.data] * 4)).sum() + p.b.sum(),
    "loss over a variance": lambda p: p.data / (2 * p.b[0] ** 2) + p.b[0].log(),
    "loss over a variance, kept from 0": lambda p: (torch.stack([p.data] * 4) / p.b**2 + torch.log1p(p.b**2)).sum(),
    "neighbors alike": lambda p: p.data + (p.w[1:] - p.w[:-1]).pow(2).sum(),
    "neighbors alike, by diff": lambda p: p.data + torch.diff(p.w, dim=1).abs().mean(),
    "neighbors alike, by mse": lambda p: p.data + F.mse_loss(p.w[1:], p.w[:-1]),
    "all alike": lambda p: p.data + (p.w - p.w.mean()).pow(2).sum(),
    "second differences": lambda p: p.data + (p.w[2:] - 2 * p.w[1:-1] + p.w[:-2]).square().sum(),
    "two weights alike": lambda p: p.data + (p.w[0] - p.g).pow(2).sum(),
    "angle to another": lambda p: p.data + F.cosine_similarity(p.w[0], p.g, dim=0),
    "angle to a constant": lambda p: p.data + F.cosine_similarity(p.w, torch.ones(4, 3)).mean(),
    "directions": lambda p: p.data + (F.normalize(p.w) - 1.0).pow(2).sum(),
    "orthogonal rows": lambda p: p.data + (p.w @ p.w.T - torch.eye(4)).pow(2).sum(),
    "a norm of its own": lambda p: p.data + (p.w.norm() - 1.0) ** 2,
    "not below zero": lambda p: p.data + F.relu(-p.w).sum(),
    "product of two weights": lambda p: p.data + (p.w * p.g).sum(),
    "contraction with another": lambda p: p.data + torch.einsum("ij,j->", p.w, p.g),
    "times zero": lambda p: p.data + 0.0 * p.w.pow(2).sum(),
    "times zero, td.penalty": lambda p: p.data + td.penalty([p.w], l1=0.0, l2=0.0),
    "times zero inside": lambda p: p.data + (0.0 * p.w).pow(2).sum(),
    "times a negative number": lambda p: p.data - 0.1 * p.w.pow(2).sum() + p.b.norm() / -3,
    "a negative one within": lambda p: p.data + (1.0 - p.w.norm()) + torch.add(p.b.norm() * 0.0, p.w.norm(), alpha=-2),
    "not reached": lambda p: p.data + torch.maximum(p.w.norm(), torch.tensor(1e3)),
    "of the activations": lambda p: p.data + 0.1 * F.linear(p.x, p.w).square().sum(),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_is_found(name: str) -> None:
    """However people write it, with the weights that it pulls and no others."""
    parts = Parts()
    made, expected = PENALTIES[name]
    assert parts.penalized(made(parts)) == expected


@pytest.mark.parametrize("name", NO_PENALTIES)
def test_what_is_no_penalty_is_not(name: str) -> None:
    """Data meets the weight somewhere, or the term does not pull it back."""
    parts = Parts()
    assert parts.penalized(NO_PENALTIES[name](parts)) == ""


def test_nobody_hears_of_a_backward_pass() -> None:
    """Neither gradients nor hooks are touched, and what can't be asked without them counts as a penalty."""
    parts, heard = Parts(), []
    parts.w.register_hook(heard.append)
    assert parts.penalized(parts.data + 0.1 * parts.w.norm()) == "w"
    assert heard == [] and parts.w.grad is None


def test_a_loss_without_a_graph_has_none() -> None:
    """A number that was detached says nothing, and breaks nothing."""
    assert penalized_parameters(torch.tensor(1.0)) == set()


def test_a_freed_graph_is_said() -> None:
    """After backward() the graph no longer knows what it multiplied."""
    parts = Parts()
    loss = (parts.x * parts.g).sum() + parts.data
    loss.backward()
    with pytest.raises(ApplyError, match="freed by a backward"):
        penalized_parameters(loss)


def test_a_deep_graph_takes_no_recursion() -> None:
    """Ten thousand layers."""
    weight = nn.Parameter(torch.ones(1))
    loss = weight.sum()
    for _ in range(10_000):
        loss = loss + 1.0
    assert penalized_parameters(loss + weight.square().sum()) == {id(weight)}
