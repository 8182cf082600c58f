"""One parameter as a plan sees it: a value, read once from the model, that selectors and rules look at."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = ("gate", "router", "weight")
"""The roles of weights: what computes a gate, what sends tokens to experts, and the rest."""
ROLES = ("embedding", "position", "token", "norm", "bias", "scale", "state_space", "scalar", "unknown", *WEIGHTS)
"""What a parameter can be for. Recurrent, expert and adapter matrices are of role `weight`; `kind` tells them apart.
A tied parameter whose uses disagree has the first of these that any use has."""

KINDS = ("matrix", "kernel", "recurrent", "expert", "adapter")
"""What sort of weight a parameter of one of the roles in `WEIGHTS` is."""


class Named:
    """What has the names and the shape of a parameter."""

    names: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name that the plan uses: the first one."""
        return self.names[0]

    @property
    def num_elements(self) -> int:
        """How many numbers the parameter holds."""
        return math.prod(self.shape)


@dataclass(kw_only=True)
class Parameter(Named):
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
        kind: one of `KINDS` for a weight, a router or a gate, else "".
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

    @cached_property
    def radial(self) -> float | None:
        """|⟨w, g⟩| / (‖w‖ ‖g‖), over the ranks; None where no gradient is there, and of FSDP1's parts.

        Of these some have no elements and no gradient, so that not all processes would ask.
        """
        import torch

        from torchdecay.sharding import aligned, is_flat_part, local, over_ranks

        tensor = self.tensor
        gradient = tensor.grad if tensor.is_leaf else None
        if gradient is None or gradient.layout is not torch.strided or tensor.is_meta or not tensor.numel():
            return None
        if is_flat_part(tensor) or tuple(tensor.shape) != self.shape:
            return None
        w, g = (_flat(local(one.detach())) for one in (tensor, aligned(gradient, tensor)))
        sums = torch.stack([torch.dot(w, g), torch.dot(w, w), torch.dot(g, g)])
        product, weight, slope = over_ranks(sums, tensor).tolist()
        cosine = abs(product) / math.sqrt(weight * slope) if weight * slope else math.nan
        return cosine if math.isfinite(cosine) else None


def _flat(tensor: Tensor) -> Tensor:
    """The elements as a vector of real numbers, in a precision that a sum over them survives."""
    import torch

    real = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return (real if real.dtype in (torch.float32, torch.float64) else real.float()).flatten()
