"""One parameter as a plan sees it: a value, read once from the model, that selectors and rules look at."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ROLES = ("embedding", "position", "token", "norm", "bias", "scale", "state_space", "scalar", "unknown", "weight")
"""What a parameter can be for. Recurrent, expert and adapter matrices are of role `weight`; `kind` tells them apart.
A tied parameter whose uses disagree has the first of these that any use has."""

KINDS = ("matrix", "kernel", "recurrent", "expert", "adapter")
"""What sort of weight a parameter of role `weight` is."""


@dataclass(kw_only=True)
class Parameter:
    """A parameter's names, shape and role, with the evidence for the role.

    Nobody changes one, though nothing forbids it: frozen ones take three times as long to make, and a model may have
    a hundred thousand.

    Attributes:
        names: canonical names (wrapper prefixes removed), the first one being the name that the plan uses; more
            than one when the weight is tied.
        shape: sizes, as torch gives them.
        dtype: torch's spelling without the prefix: "float32".
        role: one of `ROLES`: what the parameter is for.
        roles: the role at each use, in the order of `names`; equal entries unless the weight is tied across roles.
        kind: one of `KINDS` for a weight, else "".
        evidence: short sentences that say what spoke for the role, strongest first.
        classes: qualified class names of the modules that own it, most derived class first
            ("torch.nn.modules.linear.Linear"), bases included, so that a rule can name a class.
        trainable: whether it requires a gradient.
        exempt: how the model itself asks for no decay ("no_weight_decay()", "tag _no_weight_decay"), else "".
        tensor: the parameter itself.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str = "float32"
    role: str = "unknown"
    roles: tuple[str, ...] = ()
    kind: str = ""
    evidence: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    trainable: bool = True
    exempt: str = ""
    tensor: Tensor = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """The name that the plan uses: the first one."""
        return self.names[0]

    @property
    def num_elements(self) -> int:
        """How many numbers the parameter holds."""
        return math.prod(self.shape)

    @cached_property
    def radial(self) -> float | None:
        """|⟨w, g⟩| / (‖w‖ ‖g‖); None where no gradient is there, or only a shard of one.

        A shard says nothing about the whole, and gathering it would need every process to ask at the same time.
        """
        import torch

        tensor = self.tensor
        gradient = tensor.grad if tensor.is_leaf else None
        if gradient is None or gradient.layout is not torch.strided or tensor.is_meta or not tensor.numel():
            return None
        if hasattr(tensor, "full_tensor") or tuple(tensor.shape) != self.shape:
            return None
        w, g = _flat(tensor.detach()), _flat(gradient.detach())
        cosine = float(torch.dot(w, g).abs() / (torch.linalg.vector_norm(w) * torch.linalg.vector_norm(g)))
        return cosine if math.isfinite(cosine) else None


def _flat(tensor: Tensor) -> Tensor:
    """The elements as a vector of real numbers, in a precision that a sum over them survives."""
    import torch

    real = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return (real if real.dtype in (torch.float32, torch.float64) else real.float()).flatten()
