"""Roles that names alone get wrong: what the source does with a parameter, one step away too, decides.

Each model is in the manner of a kind of library; the comment says which.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchdecay as td
from torchdecay.plans.census import census
from torchdecay.plans.parameters import WEIGHTS


def roles(model: nn.Module) -> dict[str, str]:
    return {parameter.name: parameter.role for parameter in census(model)}


def randn(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


# --- vectors, single letters and memories in classes that are named for maps ------------------------------------------


class PooledAttention(nn.Module):
    """Pooling by attention, memories of learned keys and values, a blend of two."""

    def __init__(self) -> None:
        super().__init__()
        self.k, self.v, self.kv = randn(1, 1, 8), randn(1, 1, 8), randn(2, 1, 8)
        self.mem_k, self.mem_v = randn(2, 3, 4), randn(2, 3, 4)
        self.alpha = randn(2, 4)
        self.out = nn.Linear(8, 8)

    def forward(self, x: Tensor, blend: Any) -> Tensor:
        k, v = (t.expand(len(x), -1, -1) for t in (self.k, self.v))
        null, _ = map(lambda t: t.expand(len(x), -1, -1), self.kv.unbind(dim=0))
        joined = partial(torch.cat, dim=1)
        x = joined((k, null, x)) + joined((v, x, x))
        mem_k, mem_v = map(lambda t: t.expand(len(x), -1, -1, -1), (self.mem_k, self.mem_v))
        x, _ = map(partial(torch.cat, dim=-2), ((mem_k, x), (mem_v, x)))
        return self.out(blend(x, self.alpha))


def test_padded_vectors_letters_memories_and_alphas_in_an_attention_are_no_matrices() -> None:
    found = roles(PooledAttention())
    assert [found.pop("out.weight"), found.pop("out.bias")] == ["weight", "bias"]
    assert found.pop("alpha") == "scale"
    assert set(found.values()) == {"token"}, found


class UnreadableAttention(nn.Module):
    """Its forward calls a kernel of which nothing can be read."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.memory, self.k_scale = randn(4, 4), randn(6, 4), randn(2, 4)
        self.in_proj_weight = randn(12, 4)
        self.w = randn(1, 1, 4)


def test_only_whole_words_speak_for_a_matrix_where_no_source_does() -> None:
    found = roles(UnreadableAttention())
    assert found == {"q": "unknown", "memory": "token", "k_scale": "scale", "in_proj_weight": "weight", "w": "unknown"}


class OwnActivation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x) + 0.1


class Activated(nn.Module):
    """The parameter goes through modules without parameters, methods and properties before it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.own, self.plain = nn.Tanh(), OwnActivation(), nn.Identity()
        self.a, self.b, self.c, self.d, self.e = (randn(4, 4) for _ in range(5))
        self._hidden = randn(4, 4)

    @property
    def hidden(self) -> Tensor:
        return self._hidden.contiguous()

    def _turned(self, weight: Tensor) -> Tensor:
        return weight.t()

    def _whole(self) -> Tensor:
        return self.plain(self.e) if self.training else self.e

    def forward(self, x: Tensor) -> Tensor:
        x = x @ self.act(self.a) @ self.own(self.b)
        x = F.linear(x, self._turned(self.c)) @ self.hidden
        for one in [w.half() for w in (self.d,)]:
            x = x @ one
        return torch.matmul(x, self._whole())


def test_a_function_of_a_parameter_is_followed_to_where_it_is_used() -> None:
    assert set(roles(Activated()).values()) == {"weight"}


# --- dot products by hand ---------------------------------------------------------------------------------------------


class GraphAttention(nn.Module):
    """Scores of edges; one head makes the vector (1, 1, C)."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.lin = nn.Linear(4, 4 * heads, bias=False)
        self.att_source, self.att_target, self.score = randn(1, heads, 4), randn(1, heads, 4), randn(1, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lin(x).view(len(x), -1, 4)
        alpha = (x * self.att_source).sum(-1) + torch.sum(x * self.att_target, dim=-1)
        score = (x * self.score).sum(dim=-1)
        return alpha.softmax(0) * score / self.score.norm(p=2, dim=-1)


@pytest.mark.parametrize("heads", [1, 3])
def test_a_product_that_is_summed_over_the_last_axis_is_a_dot_product(heads: int) -> None:
    assert set(roles(GraphAttention(heads)).values()) == {"weight"}


class NoDots(nn.Module):
    """Sums that are no dot products: of parameters alone, over another axis, of a weight by its own norm."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.length, self.gain, self.spread = (randn(4) for _ in range(5))
        self.direction = randn(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        overlap = (self.one * self.two).sum(-1)
        weight = self.length[:, None] * self.direction / self.direction.norm(dim=1, keepdim=True)
        pooled = (x * self.gain[:, None]).sum(-1) + (x * self.spread).sum(-2)
        return F.linear(x, weight) * overlap + pooled


def test_a_product_of_parameters_or_a_sum_over_another_axis_is_no_dot_product() -> None:
    found = roles(NoDots())
    assert found.pop("direction") == "weight"
    assert set(found.values()) == {"scale"}, found


class Local(nn.Module):
    """A layer with weights of its own at each place, and one called scale that is a matrix all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.patches = randn(4, 6), randn(3, 4, 5)

    def forward(self, x: Tensor, patches: Tensor) -> Tensor:
        y = (x.unsqueeze(-1) * self.scale).sum(1)
        return y + (patches.unsqueeze(1) * self.patches).sum([2, 3])


def test_two_axes_broadcast_with_the_input_and_summed_are_a_matrix() -> None:
    assert set(roles(Local()).values()) == {"weight"}


class Scaled(nn.Module):
    """An einsum may only scale: every axis of the gain is the input's, and stays."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.weight = randn(4), randn(4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bnd,d->bnd", x, self.gain).mul(torch.einsum("...d,d->...", x, self.weight)[..., None])


def test_an_einsum_that_contracts_nothing_scales() -> None:
    assert roles(Scaled()) == {"gain": "scale", "weight": "weight"}


# --- use one step away ------------------------------------------------------------------------------------------------


def _mapped(x: Tensor, kernel: Tensor, *, shift: Tensor) -> Tensor:
    return x.matmul(kernel) + shift


def _positional(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return _mapped(x, first, shift=second)


class ByFunctions(nn.Module):
    """Functions of the module's file do the work."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third, self.fourth = randn(4, 4), randn(4), randn(4, 4), randn(4)

    def forward(self, x: Tensor) -> Tensor:
        return _positional(_mapped(x, kernel=self.first, shift=self.second), self.third, self.fourth)


def test_what_a_function_of_the_file_does_with_a_parameter_is_its_use() -> None:
    assert roles(ByFunctions()) == {"first": "weight", "second": "bias", "third": "weight", "fourth": "bias"}


class Factors(nn.Module):
    """A tensor as a product of factors; a module that holds parameters and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.core = randn(2, 2, 2)
        self.factors = nn.ParameterList([randn(4, 2), randn(4, 2), randn(3, 2)])


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.real, self.imag = randn(4, 4, 3), randn(4, 4, 3)

    def whole(self) -> Tensor:
        return torch.complex(self.real, self.imag)


class Spectral(nn.Module):
    """A convolution in frequencies: the weights are children, contracted here by a function that was chosen before."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.other = Factors(), Complex()
        self.filter = randn(4, 3, 2)
        self._contract = _chosen()

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(x)
        spectrum = spectrum * torch.view_as_complex(self.filter)
        spectrum = self._contract(spectrum, self.weight)
        return torch.fft.irfft(torch.einsum("bix,iox->box", spectrum, torch.complex(self.other.real, self.other.imag)))


def _chosen() -> Any:
    def contract(x: Tensor, weight: Any) -> Tensor:
        return torch.einsum("bix,abc->bix", x, weight)

    return contract


def test_factorized_and_complex_weights_are_weights_of_the_module_that_contracts_them() -> None:
    assert set(roles(Spectral()).values()) == {"weight"}


class Triangular(nn.Module):
    """The entries of triangular matrices, kept flat; the diagonal is kept positive."""

    def __init__(self) -> None:
        super().__init__()
        self.lower_entries, self.unconstrained_diagonal = randn(6), randn(4)

    def _lower(self) -> Tensor:
        lower = self.lower_entries.new_zeros(4, 4)
        lower[torch.tril_indices(4, 4, -1).unbind()] = self.lower_entries
        return lower + torch.diag(F.softplus(self.unconstrained_diagonal))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self._lower())


def test_the_flat_entries_of_a_matrix_are_weights() -> None:
    assert roles(Triangular()) == {"lower_entries": "weight", "unconstrained_diagonal": "scale"}


class Noisy(nn.Linear):
    """The weight that torch multiplies with is a property, made from a mean and a noise."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.weight_mu, self.weight_sigma, self.bias_mu = randn(4, 3), randn(4, 3), randn(4)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return self.weight_mu + self.weight_sigma * torch.randn_like(self.weight_sigma)

    @property
    def bias(self) -> Tensor:  # type: ignore[override]
        return self.bias_mu


def test_a_property_that_torch_multiplies_with_is_a_weight_and_the_size_of_noise_is_not() -> None:
    assert roles(Noisy()) == {"weight_mu": "weight", "weight_sigma": "scale", "bias_mu": "bias"}


class Shortened(nn.Module):
    """Keys and values are shortened along the sequence, each by its own matrix, in a loop over pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.proj_k, self.proj_v, self.times = randn(8, 2), randn(8, 2), randn(4)

    def _cosine(self, x: Tensor, other: Tensor, eps: float = 1e-4) -> Tensor:
        return x.matmul(F.normalize(other, dim=1, eps=eps))

    def forward(self, keys: Tensor, values: Tensor, t: Tensor) -> Tensor:
        shorten = lambda args: torch.einsum("bnd,nk->bkd", *args)  # noqa: E731
        keys, values = map(shorten, zip((keys, values), (self.proj_k, self.proj_v), strict=True))
        return self._cosine(keys, values) * torch.einsum("b,f->bf", t, self.times)


def test_pairs_in_a_loop_are_followed_and_an_outer_product_contracts_nothing() -> None:
    assert roles(Shortened()) == {"proj_k": "weight", "proj_v": "weight", "times": "scale"}


# --- mixing logits ----------------------------------------------------------------------------------------------------


class Mixing(nn.Module):
    """Squashed before anything else, also where the result multiplies a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.adjacency, self.rates, self.shares = randn(3), randn(5, 5), randn(5, 4), randn(4, 4)
        self.squash = nn.Softmax(dim=-1)
        self.kept = randn(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = (torch.softmax(self.layers, 0)[:, None, None] * x).sum(0)
        x = torch.sigmoid(self.adjacency) @ x * F.softplus(self.rates)
        return x @ self.squash(self.shares) @ (self.kept * torch.sigmoid(self.kept))


def test_what_is_squashed_is_a_logit_and_spared() -> None:
    found = roles(Mixing())
    assert found.pop("kept") == "weight"
    assert set(found.values()) == {"scale"}, found


class Keyed(nn.Module):
    """Entries of a dictionary, each with a use of its own, and one whose only use is by an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.held = nn.ParameterDict({"up": torch.randn(8, 8), "shift": torch.zeros(8), "down": torch.randn(8, 8)})

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.held["shift"], x, self.held["up"]) @ self.held.down


class Leading(nn.Module):
    """An axis of size one in front of those that are summed over."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma, self.factors = randn(5, 8), randn(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (x.unsqueeze(1) * self.gamma[None] * self.factors[None]).sum(dim=-1)


class Bands(nn.Module):
    """A bank of sines, whose kernels are a function of two frequencies for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.low_hz_, self.band_hz_, self.kernel = randn(8, 1), randn(8, 1), randn(8, 1, 5)

    def forward(self, x: Tensor) -> Tensor:
        low, time = self.low_hz_.abs(), torch.linspace(-1, 1, 5)
        bank = torch.sin((low + self.band_hz_.abs()) * time) - torch.sin(low * time)
        return nn.functional.conv1d(x, bank[:, None]) + nn.functional.conv1d(x, self.kernel)


def test_an_entry_of_a_dictionary_is_judged_by_its_own_use() -> None:
    assert roles(Keyed()) == {"held.up": "weight", "held.shift": "bias", "held.down": "weight"}


def test_an_axis_in_front_leaves_the_sum_over_the_last_one_a_dot_product() -> None:
    assert roles(Leading()) == {"gamma": "weight", "factors": "scale"}


def test_the_frequencies_that_a_kernel_is_made_from_are_no_kernel() -> None:
    assert roles(Bands()) == {"low_hz_": "scale", "band_hz_": "scale", "kernel": "weight"}


# --- tables in the shape of layers ------------------------------------------------------------------------------------


class Relative(nn.Module):
    """Positions kept in layers that are never called."""

    def __init__(self) -> None:
        super().__init__()
        self.rel, self.rows, self.kept = nn.Linear(8, 9), nn.Embedding(9, 8), nn.Linear(8, 8)
        self.classes = nn.Linear(8, 5, bias=False)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        index = torch.arange(x.shape[1])
        x = x + self.rel.weight[index] + self.rows.weight[: x.shape[1]]
        x = self.kept(x) + self.kept.weight[: x.shape[1]]
        return (x.mean(1) * self.classes.weight[labels]).sum(-1)


def test_a_layer_that_is_indexed_by_position_and_never_called_is_a_table() -> None:
    found = roles(Relative())
    assert found["rel.weight"] == found["rows.weight"] == "position"
    assert found["kept.weight"] == found["classes.weight"] == "weight"


# --- words that are enough for what is spared anyway ------------------------------------------------------------------


class Worded(nn.Module):
    """No source tells: the words do, and only for what is spared."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            setattr(self, name, randn(*shape))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *[(name, (3, 4)) for name in ("log_std", "raw_lengthscale", "unconstrained_rate", "query", "seeds")],
        *[(name, (3, 4)) for name in ("inducing_points", "memories", "ape", "freqs", "unnormalized_widths", "alpha")],
        *[(name, (5, 1)) for name in ("low_hz_", "band_hz_")],
    ],
)
def test_cheap_words_end_a_warning(name: str, shape: tuple[int, ...]) -> None:
    assert roles(Worded(**{name: shape}))[name] not in ("unknown", *WEIGHTS)


@pytest.mark.parametrize("name", ["raw_proj", "query_weight", "log_kernel", "seed_matrix", "stuff"])
def test_a_cheap_word_before_the_noun_of_a_map_says_nothing(name: str) -> None:
    assert roles(Worded(**{name: (3, 4)}))[name] == "unknown"


class Listed(nn.Module):
    """Entries of a list are chosen by what comes in, and rows of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.entries, self.rows = nn.ParameterList([randn(4, 4)]), randn(5, 4)

    def forward(self, which: Tensor, run: Any) -> Tensor:
        return run(self.entries[which], self.rows[which])


def test_rows_that_are_chosen_make_a_table_and_entries_of_a_list_do_not() -> None:
    assert roles(Listed()) == {"entries.0": "unknown", "rows": "embedding"}


class Modulated(nn.Module):
    """A table that shifts and scales, added to an embedding and cut into pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.modulation_table = randn(6, 4)
        self.norm = nn.LayerNorm(4, elementwise_affine=False)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        shift, scale, *_ = (self.modulation_table[None] + time.reshape(len(x), 6, -1)).chunk(6, dim=1)
        return self.norm(x) * (1 + scale) + shift


def test_a_table_that_is_added_to_an_embedding_and_chunked_is_spared() -> None:
    assert roles(Modulated()) == {"modulation_table": "scale"}


# --- routers and gates ------------------------------------------------------------------------------------------------


class GatedMixture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(4, 3, bias=False)
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.shared_expert_gate = nn.Linear(4, 1)


class GatedAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.o_gate = nn.Linear(4, 4), nn.Linear(4, 4)
        self.mlp = nn.ModuleDict({"gate_proj": nn.Linear(4, 8), "up_proj": nn.Linear(4, 8)})
        self.ffn = nn.ModuleDict({"gate": nn.Linear(4, 8), "up": nn.Linear(4, 8), "down": nn.Linear(8, 4)})
        self.gate = randn(1, 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate * math.pi


class TopKRouter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scores = randn(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.scores).topk(2).values


def test_routers_and_gates_have_roles_of_their_own_and_decay_as_weights_do() -> None:
    model = nn.ModuleDict({"moe": GatedMixture(), "attn": GatedAttention(), "router": TopKRouter()})
    found = roles(model)
    assert {name for name, role in found.items() if role == "router"} == {"moe.gate.weight", "router.scores"}
    assert {name for name, role in found.items() if role == "gate"} == {
        "attn.o_gate.weight",
        "moe.shared_expert_gate.weight",
    }
    assert found["attn.gate"] == "scale" and found["moe.experts.0.weight"] == "weight"
    plan = td.plan(model, 0.1)
    assert {row.decay for row in plan if row.role in WEIGHTS} == {td.native(0.1)}
    ruled = td.plan(model, 0.1, rules=[td.rule(td.role("router"), None), td.rule(td.role("gate"), 0.01), *td.STANDARD])
    assert ruled["moe.gate.weight"].decay is None and ruled["attn.o_gate.weight"].decay == td.native(0.01)


def test_a_router_in_a_checkpoint_is_one_and_a_gate_may_be_either() -> None:
    tensors = {"mlp.router.weight": torch.zeros(3, 4), "attn.o_gate.weight": torch.zeros(3, 4)}
    assert {one.name: one.role for one in census(tensors)} == {
        "mlp.router.weight": "router",
        "attn.o_gate.weight": "gate",
    }
