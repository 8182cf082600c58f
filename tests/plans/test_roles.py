"""Roles: from the owner, the use in its source, class, name and shape; never from a part of a word."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from torchdecay.plans.census import census
from torchdecay.plans.parameters import KINDS, ROLES, WEIGHTS
from torchdecay.plans.roles import reading, usage
from torchdecay.plans.roles.reading import WITNESSES


def roles(model: nn.Module | dict[str, Tensor]) -> dict[str, str]:
    return {name: parameter.role for parameter in census(model) for name in parameter.names}


def kinds(model: nn.Module | dict[str, Tensor]) -> dict[str, str]:
    return {name: parameter.kind for parameter in census(model) for name in parameter.names}


def randn(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


def unread(source: str) -> type[nn.Module]:
    """A module class whose source cannot be read."""
    space: dict[str, Any] = {"nn": nn, "torch": torch, "F": F}
    exec(source, space)
    return next(value for value in space.values() if isinstance(value, type) and issubclass(value, nn.Module))


THING = """
class Thing(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(4))
"""


# --- torch.nn ---------------------------------------------------------------------------------------------------------


def torch_classes_with_parameters() -> list[nn.Module]:
    made: list[nn.Module] = []
    arguments = [(4, 4, 3), (4, 4), (4, 20, [5]), (4,), (2, 4), ()]
    for name, kind in sorted(vars(nn).items()):
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)) or name.startswith("Lazy"):
            continue
        for given in arguments:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    module = kind(*given)
            except Exception:
                continue
            if any(True for _ in module.parameters()):
                made.append(module)
                break
    return made


@pytest.mark.parametrize("module", torch_classes_with_parameters(), ids=lambda module: type(module).__name__)
def test_every_torch_module_is_known(module: nn.Module) -> None:
    """A class that torch adds and the table lacks would be spared in silence but for this test."""
    assert "unknown" not in roles(module).values()
    assert all(parameter.evidence for parameter in census(module))


def test_the_list_of_torch_modules_is_not_empty() -> None:
    names = {type(module).__name__ for module in torch_classes_with_parameters()}
    assert {"Linear", "Bilinear", "Conv2d", "LSTM", "GRUCell", "MultiheadAttention", "PReLU", "RMSNorm"} <= names


def test_the_bias_of_a_norm_belongs_to_the_norm() -> None:
    assert set(roles(nn.BatchNorm1d(3)).values()) == set(roles(nn.LayerNorm((3, 2))).values()) == {"norm"}


def test_recurrent_matrices_are_weights_of_their_own_kind() -> None:
    lstm = nn.LSTM(4, 3, num_layers=2, bidirectional=True, proj_size=2)
    found = kinds(lstm)
    assert found["weight_hh_l1_reverse"] == found["weight_hr_l0"] == "recurrent"
    assert found["weight_ih_l0"] == "matrix"
    assert roles(lstm)["bias_hh_l1_reverse"] == "bias"


def test_only_what_maps_a_state_to_the_next_is_recurrent() -> None:
    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent_kernel, self.W_hh, self.recurrent_gate_weight = randn(4, 4), randn(4, 4), randn(4, 4)

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return h @ self.recurrent_kernel + h @ self.W_hh + torch.sigmoid(x @ self.recurrent_gate_weight)

    assert kinds(Cell()) == {
        "recurrent_kernel": "recurrent",
        "W_hh": "recurrent",
        "recurrent_gate_weight": "matrix",
    }


def test_attention_in_one_piece_and_in_three() -> None:
    joint = nn.MultiheadAttention(4, 2, add_bias_kv=True)
    apart = nn.MultiheadAttention(4, 2, kdim=3, vdim=3)
    assert roles(joint)["in_proj_weight"] == roles(apart)["k_proj_weight"] == "weight"
    assert {roles(joint)[name] for name in ("in_proj_bias", "bias_k", "bias_v")} == {"bias"}


def test_a_subclass_of_a_torch_module_is_one_and_its_own_parameters_are_looked_at_apart() -> None:
    class Gated(nn.Linear):
        def __init__(self) -> None:
            super().__init__(3, 3)
            self.gate = randn(3)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.gate

    assert roles(Gated()) == {"weight": "weight", "bias": "bias", "gate": "scale"}


# --- parametrizations -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weight_norm_has_a_length_and_a_direction_whichever_way_it_is_made() -> None:
    new, old = parametrizations.weight_norm(nn.Conv1d(2, 3, 1)), weight_norm(nn.Conv1d(2, 3, 1))
    assert roles(new)["parametrizations.weight.original0"] == roles(old)["weight_g"] == "scale"
    assert roles(new)["parametrizations.weight.original1"] == roles(old)["weight_v"] == "weight"
    assert kinds(new)["parametrizations.weight.original1"] == kinds(old)["weight_v"] == "kernel"


def test_spectral_norm_orthogonal_and_pruned_weights_are_weights_and_say_what_stands_before_them() -> None:
    for module, name in [
        (parametrizations.spectral_norm(nn.Linear(3, 3)), "parametrizations.weight.original"),
        (parametrizations.orthogonal(nn.Linear(3, 3)), "parametrizations.weight.original"),
        (spectral_norm(nn.Linear(3, 3)), "weight_orig"),
        (prune.l1_unstructured(nn.Linear(3, 3), "weight", 0.5), "weight_orig"),
    ]:
        found = {parameter.name: parameter for parameter in census(module)}[name]
        assert (found.role, found.kind) == ("weight", "matrix")
        assert any("behind" in line for line in found.evidence)


def test_a_parametrized_bias_stays_a_bias() -> None:
    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / 2

    linear = nn.Linear(2, 2)
    parametrize.register_parametrization(linear, "bias", Half())
    assert roles(linear)["parametrizations.bias.original"] == "bias"


def test_one_of_several_tensors_behind_an_unknown_parametrization_is_unknown() -> None:
    class Sum(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a + b

        def right_inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x / 2, x / 2

    linear = nn.Linear(2, 2, bias=False)
    parametrize.register_parametrization(linear, "weight", Sum())
    assert set(roles(linear).values()) == {"unknown"}


def test_the_class_of_a_parametrized_layer_counts_as_the_layer() -> None:
    found = census(parametrizations.spectral_norm(nn.Linear(3, 3, bias=False)))[0]
    assert "torch.nn.modules.linear.Linear" in found.classes


# --- custom norms -----------------------------------------------------------------------------------------------------


class RMSNorm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class OneCentered(nn.Module):
    """The gain is 1 + g, and nothing is called a norm."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
        return x * (1.0 + self.g.float())


class ByNormalize(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) * x.shape[-1] ** 0.5 * self.gamma


class PerHead(nn.Module):
    def __init__(self, heads: int, size: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(heads, 1, size))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) * self.gamma


class ByHand(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.a_2, self.b_2 = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        mean, std = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
        return self.a_2 * (x - mean) / (std + 1e-6) + self.b_2


class LayerNorm(nn.Module):
    """nanoGPT's: a layer norm with an optional bias, called through the function."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class Calibrated(nn.Module):
    """No word speaks for a norm; functional.layer_norm does, under its longest name."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.first, self.second = randn(size), randn(size)

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.layer_norm(x, (4,), weight=self.first, bias=self.second)


@pytest.mark.parametrize(
    "module",
    [RMSNorm(4), OneCentered(4), ByNormalize(4), PerHead(2, 4), LayerNorm(4), Calibrated(4)],
    ids=lambda module: type(module).__name__,
)
def test_norms_are_known_by_what_they_compute(module: nn.Module) -> None:
    assert set(roles(module).values()) == {"norm"}
    assert set(roles(module.to("meta")).values()) == {"norm"}, "the values may not be needed"


def test_a_norm_under_names_that_say_nothing_is_spared_at_least() -> None:
    assert set(roles(ByHand(4)).values()) <= {"norm", "scale", "bias"}


def test_a_norm_whose_source_cannot_be_read_is_known_by_its_class_or_its_values() -> None:
    assert roles(unread(THING.replace("Thing", "CustomRMSNorm"))()) == {"weight": "norm"}
    for value in ("ones", "zeros"):
        assert roles(unread(THING.replace("rand", value))()) == {"weight": "norm"}
    assert roles(unread(THING)()) == {"weight": "unknown"}


# --- name traps -------------------------------------------------------------------------------------------------------


class Matrix(nn.Module):
    """A linear map whose class and attribute say nothing."""

    def __init__(self, attribute: str = "w") -> None:
        super().__init__()
        self.attribute = attribute
        self.w = randn(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w.t()


TRAPS = [
    "subnet",
    "norm_mlp",
    "normal_proj",
    "unbiased_head",
    "debias_proj",
    "embedder_proj",
    "rel_head",
    "token_mixer",
]


@pytest.mark.parametrize("name", TRAPS)
def test_a_word_inside_a_name_decides_nothing_about_a_layer(name: str) -> None:
    model = nn.ModuleDict({name: nn.Linear(3, 3), f"{name}_own": Matrix()})
    assert roles(model) == {f"{name}.weight": "weight", f"{name}.bias": "bias", f"{name}_own.w": "weight"}


@pytest.mark.parametrize("name", TRAPS)
def test_a_word_inside_a_name_decides_nothing_in_a_checkpoint(name: str) -> None:
    tensors = {f"{name}.weight": torch.zeros(3, 4), f"{name}.bias": torch.zeros(3)}
    assert roles(tensors) == {f"{name}.weight": "weight", f"{name}.bias": "bias"}


@pytest.mark.parametrize("name", ["debias_proj", "unbiased_w", "rescale_matrix", "subnorm_proj", "tokenizer_w"])
def test_a_word_inside_the_name_of_a_plain_parameter_decides_nothing(name: str) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.debias_proj, self.unbiased_w, self.rescale_matrix = randn(2, 3), randn(2, 3), randn(2, 3)
            self.subnorm_proj, self.tokenizer_w = randn(2, 3), randn(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.linear(F.linear(x, self.debias_proj), self.unbiased_w)
            return x @ self.rescale_matrix @ self.subnorm_proj + torch.einsum("ij,j->i", self.tokenizer_w, x)

    assert roles(Own())[name] == "weight"


def test_a_matrix_is_a_weight_although_its_name_begins_with_a_token_or_a_position() -> None:
    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token_mixing, self.pos_mixing, self.norm_mixing = randn(4, 4), randn(4, 4), randn(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum("ij,jk->ik", self.token_mixing @ self.pos_mixing, x) @ self.norm_mixing

    assert set(roles(Mixer()).values()) == {"weight"}


def test_a_fused_layer_keeps_its_norm_and_its_map_apart() -> None:
    class LayerNormLinear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer_norm_weight, self.layer_norm_bias = randn(4), randn(4)
            self.weight, self.bias = randn(3, 4), randn(3)

    assert roles(LayerNormLinear()) == {
        "layer_norm_weight": "norm",
        "layer_norm_bias": "norm",
        "weight": "weight",
        "bias": "bias",
    }


def test_a_bias_at_the_root_is_a_bias_and_the_index_of_a_layer_is_a_whole_word() -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = randn(3)
            self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(12))

    found = roles(Root())
    assert found["bias"] == "bias" and found["layers.11.weight"] == found["layers.1.weight"] == "weight"


# --- use in the source ------------------------------------------------------------------------------------------------


def test_weights_are_known_by_the_product_they_stand_in() -> None:
    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.d, self.e = (randn(4, 4) for _ in range(5))
            self.list = nn.ParameterList(randn(4, 4) for _ in range(2))
            self.filters = randn(4, 4, 3)
            self.shift_by = randn(4)
            self.vector = randn(4)

        def forward(self, x: Tensor) -> Tensor:
            a = self.a.to(x.dtype)
            x = torch.matmul(x, a.transpose(0, 1))
            x = torch.addmm(self.shift_by, x, self.b)
            x = x.matmul(self.c if x.ndim > 1 else self.d)
            mixed = self.e * torch.sigmoid(self.e)
            x = F.linear(x, mixed)
            for one in self.list:
                x = x @ one
            return F.conv1d(x, weight=self.filters) @ self.vector

    found = roles(Maps())
    assert found.pop("shift_by") == "bias"
    assert set(found.values()) == {"weight"}, found
    assert kinds(Maps())["filters"] == "kernel"


def test_a_factor_is_a_scale_and_a_term_a_bias() -> None:
    class Affine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.three = randn(4), randn(4, 1, 1), randn(1, 1, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = x.mul(self.one)
            x *= self.two
            return x + self.three

    assert roles(Affine()) == {"one": "scale", "two": "scale", "three": "bias"}


def test_an_input_that_a_parameter_was_mixed_into_is_not_that_parameter() -> None:
    """x + pos, then x @ w, does not make pos an operand of the product."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.where, self.w = randn(1, 5, 4), randn(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.where
            return x @ self.w

    assert roles(Mixed()) == {"where": "unknown", "w": "weight"}


def test_what_a_parameter_is_multiplied_with_is_not_that_parameter_afterwards() -> None:
    """latents.matmul(x) is no longer the latents: a sum with it adds no bias."""

    class Flows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.layers = randn(4, 4), nn.ModuleList([nn.Linear(4, 4)])
            self.start = randn(1, 4)

        def forward(self, x: Tensor) -> Tensor:
            state = self.start.expand(len(x), -1)
            state = self.layers[0](state)
            state = state @ x.mT
            return state + self.first.matmul(x)

    assert roles(Flows()) == {
        "first": "weight",
        "start": "token",
        "layers.0.weight": "weight",
        "layers.0.bias": "bias",
    }


def test_a_table_that_is_looked_up_is_an_embedding() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = randn(9, 4)

        def forward(self, i: Tensor) -> Tensor:
            return F.embedding(i, self.rows)

    assert roles(Table()) == {"rows": "embedding"}


def test_reading_the_source_runs_nothing_and_survives_what_cannot_be_read() -> None:
    class Odd(nn.Module):
        weights = property(lambda self: 1 / 0)
        method = staticmethod(lambda: None)

        def __init__(self) -> None:
            super().__init__()
            self.thing = randn(2, 2)

        def forward(self, *, x: Tensor) -> Tensor:
            raise AssertionError

    assert roles(Odd()) == {"thing": "unknown"}
    assert usage.of(unread("class A(nn.Module):\n def forward(self, x): return x @ self.w")()).uses == {}


def test_nothing_to_go_by_is_unknown_and_says_so() -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stuff = randn(3, 4)

    (found,) = census(Bag())
    assert found.role == "unknown" and found.kind == "" and "nothing speaks" in found.evidence[0]


# --- scales, tokens, positions, embeddings ----------------------------------------------------------------------------


def test_scales_of_any_shape() -> None:
    class Scales(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logit_scale = nn.Parameter(torch.tensor(2.6))
            self.layer_scale = nn.Parameter(torch.full((8, 1, 1), 1e-6))
            self.gamma_1 = nn.Parameter(torch.full((8,), 1e-6))
            self.prelu = nn.PReLU(8)

    assert set(roles(Scales()).values()) == {"scale"}


def test_tokens_and_positions_that_are_plain_parameters() -> None:
    class ViT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cls_token, self.mask_token, self.register_tokens = randn(1, 1, 8), randn(1, 8), randn(1, 4, 8)
            self.class_embedding, self.query_tokens, self.probe = randn(8), randn(1, 6, 8), randn(1, 1, 8)
            self.pos_embed, self.absolute_position_embeddings = randn(1, 17, 8), randn(17, 8)
            self.relative_position_bias_table, self.rel_pos_h, self.attention_biases = (
                randn(49, 2),
                randn(7, 4),
                randn(2, 9),
            )
            self.head = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
            bias = self.relative_position_bias_table[self.index]
            return self.head(x @ x.mT + bias + self.rel_pos_h @ x)

    found = roles(ViT())
    assert [found.pop("head.weight"), found.pop("head.bias")] == ["weight", "bias"]
    assert {name for name, role in found.items() if role == "token"} == {
        "cls_token",
        "mask_token",
        "register_tokens",
        "class_embedding",
        "query_tokens",
        "probe",
    }
    assert {name for name, role in found.items() if role == "position"} == {
        "pos_embed",
        "absolute_position_embeddings",
        "relative_position_bias_table",
        "rel_pos_h",
        "attention_biases",
    }


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("word_embeddings", "embedding"),
        ("token_type_embeddings", "embedding"),
        ("position_embeddings", "position"),
        ("embed_positions", "position"),
        ("wpe", "position"),
        ("wte", "embedding"),
        ("relative_attention_bias", "position"),
        ("rel_embeddings", "position"),
        ("composer", "embedding"),
        ("disposition", "embedding"),
    ],
)
def test_an_embedding_is_one_of_positions_where_a_whole_word_says_so(name: str, role: str) -> None:
    assert roles(nn.ModuleDict({name: nn.Embedding(5, 4)})) == {f"{name}.weight": role}


def test_an_embedding_in_a_class_for_positions_is_one_of_positions() -> None:
    class LearnedPositionalEncoding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5, 4)

    class TokenAndPositionEmbedding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Embedding(5, 4)
            self.position = nn.Embedding(5, 4)

    assert roles(LearnedPositionalEncoding()) == {"embedding.weight": "position"}
    assert roles(TokenAndPositionEmbedding()) == {"token.weight": "embedding", "position.weight": "position"}


# --- state spaces, experts, adapters ----------------------------------------------------------------------------------


def test_what_sets_the_time_scale_of_a_state_space_is_no_weight() -> None:
    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.A_log, self.D, self.dt_bias = randn(8, 4), randn(8), randn(8)
            self.in_proj = nn.Linear(4, 8)

    found = roles(Mixer())
    assert {found[name] for name in ("A_log", "D", "dt_bias")} == {"state_space"}
    assert found["in_proj.weight"] == "weight"


def test_two_factors_called_a_and_b_are_weights_and_a_lone_d_is_no_state_space() -> None:
    class LowRank(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.A, self.B = randn(8, 2), randn(2, 8)

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.A @ self.B

    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.D = randn(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.D)

    assert set(roles(LowRank()).values()) == set(roles(Other()).values()) == {"weight"}


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_up_proj, self.gate_up_proj_bias = randn(4, 8, 16), randn(4, 16)
        self.down_proj = randn(4, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.bmm(x, self.gate_up_proj) + self.gate_up_proj_bias[:, None]
        return torch.bmm(x, self.down_proj)


def test_stacked_experts_are_weights_and_their_stacked_biases_biases() -> None:
    assert roles(Experts()) == {"gate_up_proj": "weight", "gate_up_proj_bias": "bias", "down_proj": "weight"}
    assert kinds(Experts())["down_proj"] == "expert"


def test_an_expert_of_its_own_is_an_expert_and_a_shared_one_an_ordinary_layer() -> None:
    model = nn.ModuleDict({"experts": nn.ModuleList([nn.Linear(2, 2)]), "shared_experts": nn.Linear(2, 2)})
    assert kinds(model)["experts.0.weight"] == "expert"
    assert kinds(model)["shared_experts.weight"] == "matrix"


def test_lora_by_hand_is_an_adapter() -> None:
    class LoRA(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(4, 4)
            self.lora_A, self.lora_B = nn.Linear(4, 2, bias=False), randn(4, 2)

    found = kinds(LoRA())
    assert found == {"base.weight": "matrix", "base.bias": "", "lora_A.weight": "adapter", "lora_B": "adapter"}


def test_peft_adapters_are_weights_and_their_vectors_scales() -> None:
    peft = pytest.importorskip("peft")

    def tuned(**settings: Any) -> nn.Module:
        return peft.get_peft_model(
            nn.Sequential(nn.Linear(4, 4)), peft.LoraConfig(target_modules=["0"], r=2, **settings)
        )

    assert roles(tuned(lora_bias=True))["0.lora_B.default.bias"] == "bias"
    found = {parameter.name: parameter for parameter in census(tuned(use_dora=True))}
    assert found["0.lora_A.default.weight"].kind == found["0.lora_B.default.weight"].kind == "adapter"
    assert found["0.lora_magnitude_vector.default.weight"].role == "scale"
    assert not found["0.weight"].trainable and found["0.weight"].kind == "matrix"


def test_a_rank_of_one_makes_no_scale_of_a_lora_matrix() -> None:
    peft = pytest.importorskip("peft")
    base = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4))
    found = kinds(peft.get_peft_model(base, peft.LoraConfig(target_modules=["0", "1"], r=1)))
    assert {kind for name, kind in found.items() if "lora" in name} == {"adapter"}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_a_scripted_model_is_read_by_the_names_of_its_classes() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
    assert roles(scripted) == {"0.weight": "weight", "0.bias": "bias", "1.weight": "norm", "1.bias": "norm"}


# --- tied -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [("embed", "head"), ("head", "embed")])
def test_a_head_tied_to_an_embedding_is_an_embedding_whatever_the_order(order: tuple[str, str]) -> None:
    parts: dict[str, nn.Module] = {"embed": nn.Embedding(6, 4), "head": nn.Linear(4, 6, bias=False)}
    parts["head"].weight = parts["embed"].weight
    (found,) = census(nn.ModuleDict({name: parts[name] for name in order}))
    assert found.role == "embedding"
    assert found.names == tuple(f"{name}.weight" for name in order)
    assert dict(zip(found.names, found.roles, strict=True)) == {"embed.weight": "embedding", "head.weight": "weight"}
    assert any(line.startswith("tied: ") for line in found.evidence)


def test_blocks_that_are_shared_keep_their_role() -> None:
    block = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    found = {parameter.name: parameter for parameter in census(nn.ModuleList([block, block]))}
    assert found["0.0.weight"].names == ("0.0.weight", "1.0.weight")
    assert found["0.0.weight"].roles == ("weight", "weight") and found["0.0.weight"].kind == "matrix"
    assert found["0.1.weight"].role == "norm"


# --- checkpoints of tensors -------------------------------------------------------------------------------------------


def test_a_checkpoint_of_tensors_is_read_from_names_and_shapes() -> None:
    tensors = {
        "model.embed_tokens.weight": torch.zeros(9, 4),
        "model.layers.0.self_attn.q_proj.weight": torch.zeros(4, 4),
        "model.layers.0.mlp.experts.gate_up_proj": torch.zeros(2, 4, 8),
        "model.layers.0.input_layernorm.weight": torch.zeros(4),
        "model.layers.0.mixer.A_log": torch.zeros(4, 2),
        "model.layers.0.conv.weight": torch.zeros(4, 4, 3, 3),
        "model.bn.weight": torch.zeros(4),
        "model.bn.bias": torch.zeros(4),
        "model.bn.running_mean": torch.zeros(4),
        "model.bn.running_var": torch.zeros(4),
        "model.bn.num_batches_tracked": torch.tensor(3),
        "model.position_embeddings.weight": torch.zeros(5, 4),
        "model.cls_token": torch.zeros(1, 1, 4),
        "model.rnn.weight_hh_l0": torch.zeros(4, 4),
        "model.rnn.bias_hh_l0": torch.zeros(4),
        "model.wn.weight_g": torch.zeros(4, 1),
        "model.wn.weight_v": torch.zeros(4, 3),
        "model.mystery.weight": torch.zeros(4, 3),
        "lm_head.weight": torch.zeros(9, 4),
    }
    assert roles(tensors) == {
        "model.embed_tokens.weight": "embedding",
        "model.layers.0.self_attn.q_proj.weight": "weight",
        "model.layers.0.mlp.experts.gate_up_proj": "weight",
        "model.layers.0.input_layernorm.weight": "norm",
        "model.layers.0.mixer.A_log": "state_space",
        "model.layers.0.conv.weight": "weight",
        "model.bn.weight": "norm",
        "model.bn.bias": "norm",
        "model.position_embeddings.weight": "position",
        "model.cls_token": "token",
        "model.rnn.weight_hh_l0": "weight",
        "model.rnn.bias_hh_l0": "bias",
        "model.wn.weight_g": "scale",
        "model.wn.weight_v": "unknown",
        "model.mystery.weight": "unknown",
        "lm_head.weight": "weight",
    }
    found = kinds(tensors)
    assert found["model.layers.0.mlp.experts.gate_up_proj"] == "expert"
    assert found["model.layers.0.conv.weight"] == "kernel" and found["model.rnn.weight_hh_l0"] == "recurrent"


def test_a_checkpoint_agrees_with_its_model_or_says_that_it_does_not_know() -> None:
    """What names and shapes say may be less than what modules say, never something else."""
    for model in (
        nn.Transformer(8, 2, 1, 1, 16, batch_first=True),
        nn.ModuleDict({"conv": nn.Conv2d(2, 3, 3), "bn": nn.BatchNorm2d(3), "gru": nn.GRU(3, 3), "act": nn.PReLU(3)}),
        nn.ModuleDict({"embed": nn.Embedding(5, 4), "fc": nn.Linear(4, 4), "norm": nn.RMSNorm(4)}),
    ):
        told = roles(dict(model.state_dict()))
        for name, role in roles(model).items():
            assert told[name] in (role, "unknown"), name


# --- the values themselves --------------------------------------------------------------------------------------------


def test_roles_and_kinds_are_words_that_selectors_know() -> None:
    model = nn.ModuleList([nn.LSTM(2, 2), nn.Embedding(2, 2), Experts(), PerHead(2, 4), nn.PReLU()])
    for parameter in census(model):
        assert parameter.role in ROLES and set(parameter.roles) <= set(ROLES)
        assert parameter.kind in KINDS if parameter.role in WEIGHTS else parameter.kind == ""


def test_values_decide_only_between_roles_that_are_spared() -> None:
    """The same plan before and after training: a trained gain may lose its name, but never begins to decay."""
    module = unread(THING.replace("rand", "ones"))()
    before = census(module)[0].role
    module.weight.data.normal_()
    assert "weight" not in (before, census(module)[0].role)


class Mixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shares = randn(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.shares, -1) @ x


class LowRank(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = randn(4, 2), randn(2, 4)

    def merged(self) -> Tensor:
        return self.left @ self.right


SAMPLES: dict[str, Callable[[], nn.Module]] = {
    "parametrization": lambda: parametrizations.weight_norm(nn.Linear(3, 3)),
    "torch_module": lambda: nn.Bilinear(2, 2, 2),
    "adapter": lambda: nn.ParameterDict({"lora_A": randn(2, 4)}),
    "state_space": lambda: holding("State", A_log=randn(8, 4)),
    "norm": lambda: RMSNorm(4),
    "logits": Mixing,
    "position": lambda: holding("Vision", pos_embed=randn(1, 5, 4)),
    "token": lambda: holding("Vision", cls_token=randn(1, 1, 4)),
    "embedding": lambda: holding("VocabParallelEmbedding", weight=randn(9, 4)),
    "bias": lambda: holding("Stacked", proj_bias=randn(4, 8)),
    "weight": Matrix,
    "scale": lambda: holding("Block", layer_scale=randn(4, 1, 1)),
    "hint": lambda: holding("Policy", inducing_points=randn(5, 4)),
    "factor": LowRank,
    "lone_gain": lambda: unread(THING.replace("rand", "ones"))(),
    "scalar": lambda: holding("Single", thing=randn(1)),
}


def holding(class_name: str, **parameters: nn.Parameter) -> nn.Module:
    """A module of a class without source that holds these parameters."""
    module: nn.Module = type(class_name, (nn.Module,), {})()
    for name, parameter in parameters.items():
        setattr(module, name, parameter)
    return module


@pytest.mark.parametrize("witness", WITNESSES, ids=lambda witness: witness.__name__)
def test_each_witness_is_needed(witness: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A seeded fault for each: without it, something that only it knows gets another role."""
    model = SAMPLES[witness.__name__]()
    before = roles(model)
    monkeypatch.setattr(reading, "WITNESSES", [one for one in WITNESSES if one is not witness])
    assert roles(model) != before


def test_a_scalar_that_nothing_speaks_for_is_a_scalar() -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.thing = nn.Parameter(torch.tensor(math.pi))

    assert roles(One()) == {"thing": "scalar"}
