"""The census: every tensor once, under all its names, with what the model itself asks for, and quickly."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel

from torchdecay.errors import PlanError
from torchdecay.plans.census import census
from torchdecay.plans.parameters import Parameter
from torchdecay.plans.tree import names_of, parameters_by_name

RESNET50 = (Path(__file__).parents[1] / "golden" / "resnet50_names.txt").read_text().split()


def by_name(model: Any) -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in census(model)}


# --- which parameters -------------------------------------------------------------------------------------------------


def test_every_parameter_is_there_once_trainable_and_frozen_in_the_order_of_the_model() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    assert [parameter.name for parameter in census(model)] == [name for name, _ in model.named_parameters()]
    assert [parameter.trainable for parameter in census(model)] == [False, False, True, True, True, True]


def test_shape_dtype_and_classes_are_those_of_the_tensor_and_its_owner() -> None:
    class Mine(nn.Linear):
        pass

    (found,) = census(nn.Sequential(Mine(2, 3, bias=False, dtype=torch.bfloat16)))
    assert (found.shape, found.dtype, found.num_elements) == ((3, 2), "bfloat16", 6)
    assert found.classes[0].endswith("Mine") and "torch.nn.modules.linear.Linear" in found.classes


def test_a_tied_tensor_has_all_its_names_and_the_classes_of_all_its_owners() -> None:
    embed, head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
    head.weight = embed.weight
    (found,) = census(nn.ModuleDict({"embed": embed, "head": head}))
    assert found.names == ("embed.weight", "head.weight")
    assert {"torch.nn.modules.sparse.Embedding", "torch.nn.modules.linear.Linear"} <= set(found.classes)


def test_one_tensor_under_two_attributes_of_one_module_has_both_names() -> None:
    linear = nn.Linear(2, 2, bias=False)
    linear.again = linear.weight
    assert census(linear)[0].names == ("weight", "again")


def test_a_model_without_parameters_gives_none() -> None:
    assert census(nn.Sequential(nn.ReLU())) == ()
    assert census({}) == ()


def test_parameters_that_are_missing_or_empty_do_no_harm() -> None:
    linear = nn.Linear(2, 2, bias=False)
    linear.register_parameter("extra", None)
    linear.empty = nn.Parameter(torch.zeros(0, 3))
    assert [parameter.name for parameter in census(linear)] == ["weight", "empty"]


def test_resnet50_has_161_parameters_and_the_names_that_everyone_knows() -> None:
    """M2.1: the list that the sources print, kept here."""
    assert len(RESNET50) == len(set(RESNET50)) == 161
    assert RESNET50[:4] == ["conv1.weight", "bn1.weight", "bn1.bias", "layer1.0.conv1.weight"]


@pytest.mark.peers
def test_the_census_of_torchvisions_resnet50() -> None:
    """The kept list is the one of torchvision, and its batch norms are norms."""
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        found = census(models.resnet50())
    assert [parameter.name for parameter in found] == RESNET50
    assert {parameter.role for parameter in found if ".bn" in f".{parameter.name}"} == {"norm"}


def test_parameters_by_name_and_names_of_agree_with_the_census() -> None:
    block = nn.Linear(2, 2)
    model = torch.compile(nn.ModuleList([block, nn.Sequential(block)]))
    named = parameters_by_name(model)
    for parameter in census(model):
        assert {id(named[name]) for name in parameter.names} == {id(named[parameter.name])}
        assert names_of(model)[id(named[parameter.name])] == parameter.name


# --- what cannot be planned -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lazy", [nn.LazyLinear(3), nn.Sequential(nn.Linear(2, 2), nn.LazyBatchNorm1d())])
def test_a_lazy_parameter_is_refused_with_the_way_out(lazy: nn.Module) -> None:
    with pytest.raises(PlanError, match="Run one batch"):
        census(lazy)


def test_a_lazy_model_is_planned_once_it_has_seen_a_batch() -> None:
    model = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d())
    model(torch.zeros(2, 5))
    assert [parameter.role for parameter in census(model)] == ["weight", "bias", "norm", "norm"]


@pytest.mark.parametrize(
    "made",
    [
        lambda: nn.Linear(2, 2).parameters(),
        lambda: list(nn.Linear(2, 2).parameters()),
        lambda: torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1),
        lambda: None,
        lambda: nn.Linear,
    ],
    ids=["generator", "list", "optimizer", "None", "class"],
)
def test_what_is_no_model_is_refused_by_name(made: Callable[[], Any]) -> None:
    with pytest.raises(PlanError, match=r"needs a model, not"):
        census(made())


def test_a_checkpoint_with_more_than_tensors_says_which_entry_and_where_to_look() -> None:
    checkpoint = {"model": nn.Linear(2, 2).state_dict(), "epoch": 3}
    with pytest.raises(PlanError, match=r'"model".*OrderedDict(.|\n)*checkpoint\["model"\]'):
        census(checkpoint)


# --- what the model asks for ------------------------------------------------------------------------------------------


class Asking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pos = nn.Linear(2, 2)
        self.cpb_mlp = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        self.rest = nn.Linear(2, 2)

    def no_weight_decay(self) -> set[str]:
        return {"pos.weight"}

    def no_weight_decay_keywords(self) -> set[str]:
        return {"cpb_mlp"}


ASKED = {
    "pos.weight": "no_weight_decay()",
    "cpb_mlp.0.weight": "no_weight_decay_keywords()",
    "cpb_mlp.0.bias": "no_weight_decay_keywords()",
    "cpb_mlp.1.weight": "no_weight_decay_keywords()",
    "cpb_mlp.1.bias": "no_weight_decay_keywords()",
}


def exempt(model: Any) -> dict[str, str]:
    return {name: parameter.exempt for name, parameter in by_name(model).items() if parameter.exempt}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda m: m,
        torch.compile,
        nn.DataParallel,
        AveragedModel,
        checkpoint_wrapper,
        lambda m: torch.compile(nn.DataParallel(checkpoint_wrapper(m))),
    ],
    ids=["bare", "compile", "DataParallel", "AveragedModel", "checkpoint", "nested"],
)
def test_what_a_model_exempts_is_read_through_wrappers(wrap: Callable[[nn.Module], nn.Module]) -> None:
    assert exempt(wrap(Asking())) == ASKED


def test_names_with_a_wrapper_inside_them_are_read_too() -> None:
    """A model that lists its own named_parameters, after a part of it was wrapped, says the wrapped names."""

    class Lists(Asking):
        def no_weight_decay(self) -> set[str]:
            return {name for name, _ in self.named_parameters() if "pos" in name}

    model = Lists()
    model.pos = checkpoint_wrapper(model.pos)  # type: ignore[assignment]
    assert {"pos.weight", "pos.bias"} <= set(exempt(model))


def test_a_part_of_a_model_exempts_its_own_names_and_says_who_asked() -> None:
    found = exempt(nn.ModuleDict({"vision": Asking(), "text": nn.Linear(2, 2)}))
    assert found == {f"vision.{name}": f"{asked} of vision" for name, asked in ASKED.items()}


def test_tags_on_parameters_are_read() -> None:
    linear = nn.Linear(2, 2)
    linear.weight._no_weight_decay = True  # type: ignore[attr-defined]
    linear.bias._optim = {"weight_decay": 0.0}  # type: ignore[attr-defined]
    assert exempt(linear) == {"weight": "tag _no_weight_decay", "bias": "tag _optim"}
    linear.weight._no_weight_decay = False  # type: ignore[attr-defined]
    linear.bias._optim = {"lr": 1.0}  # type: ignore[attr-defined]
    assert exempt(linear) == {}
    linear.bias._no_reinit = True  # type: ignore[attr-defined]
    assert exempt(linear) == {"bias": "tag _no_reinit"}


def test_any_name_of_a_tied_tensor_can_exempt_it() -> None:
    model = Asking()
    model.rest.weight = model.pos.weight
    assert by_name(model)["pos.weight"].exempt == by_name(model)["pos.weight"].exempt == "no_weight_decay()"
    turned = nn.ModuleDict({"first": model.rest, "asking": model})
    assert by_name(turned)["first.weight"].exempt == "no_weight_decay() of asking"


def test_a_method_that_raises_is_an_error_not_a_silent_decay() -> None:
    class Broken(nn.Linear):
        def no_weight_decay(self) -> set[str]:
            raise AttributeError("no such thing")

    with pytest.raises(PlanError, match=r"Broken\.no_weight_decay\(\) raised AttributeError"):
        census(nn.Sequential(Broken(2, 2)))


def test_lists_a_single_word_and_nothing_are_understood() -> None:
    class Says(nn.Linear):
        said: Any = None

        def no_weight_decay(self) -> Any:
            return self.said

    model = Says(2, 2)
    for said, expected in [
        (None, set()),
        ([], set()),
        (["bias"], {"bias"}),
        ("bias", {"bias"}),
        ({"bias": 1}, {"bias"}),
    ]:
        model.said = said
        assert set(exempt(model)) == expected


# --- what was measured ------------------------------------------------------------------------------------------------


def test_the_radial_part_of_a_gradient_is_nearly_nothing_before_a_norm_and_absent_without_a_gradient() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16, bias=False), nn.LayerNorm(16), nn.Linear(16, 1))
    assert all(parameter.radial is None for parameter in census(model))
    model(torch.randn(64, 8)).square().sum().backward()
    found = by_name(model)
    w, g = model[2].weight.detach().flatten(), model[2].weight.grad.flatten()
    assert found["2.weight"].radial == pytest.approx(float((w @ g).abs() / (w.norm() * g.norm())), rel=1e-5)
    # Scale-invariant as a whole, but for the norm's epsilon.
    assert found["0.weight"].radial < 1e-4 < found["2.weight"].radial


def test_a_gradient_of_zeros_a_sparse_or_a_half_precision_one_is_taken_with_care() -> None:
    linear = nn.Linear(2, 2, dtype=torch.bfloat16)
    linear.weight.grad = linear.weight.detach().clone()
    linear.bias.grad = torch.zeros_like(linear.bias)
    found = by_name(linear)
    assert found["weight"].radial == pytest.approx(1.0, abs=1e-5) and found["bias"].radial is None
    embedding = nn.Embedding(3, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    assert census(embedding)[0].radial is None


# --- shards -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_fake_ranks() -> Iterator[None]:
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield
    dist.destroy_process_group()


class Shardable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.w = nn.Parameter(torch.zeros(4, 4))
        self.fc, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.fc(x @ self.w) + self.token)


def essence(model: nn.Module) -> list[tuple[Any, ...]]:
    return [(p.name, p.shape, p.role, p.kind) for p in census(model)]


def test_a_shard_has_the_shape_and_role_of_the_whole(two_fake_ranks: None) -> None:
    """FSDP1 makes every parameter 1-D and some of them empty; a rule by ndim would then spare all of them."""
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    plain = essence(Shardable())
    fsdp1 = FullyShardedDataParallel(Shardable(), device_id=torch.device("cpu"), use_orig_params=True)
    assert {parameter.ndim for parameter in fsdp1.parameters()} == {1}
    assert essence(fsdp1) == plain
    fsdp2 = Shardable()
    fully_shard(fsdp2)
    assert essence(fsdp2) == plain


def test_what_fsdp1_has_flattened_into_one_is_unknown(two_fake_ranks: None) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    (found,) = census(FullyShardedDataParallel(Shardable(), device_id=torch.device("cpu")))
    assert found.role == "unknown" and "use_orig_params=True" in found.evidence[0]


# --- checkpoints of tensors -------------------------------------------------------------------------------------------


def test_a_checkpoint_leaves_buffers_out_and_keeps_parameters() -> None:
    state = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()
    state["position_ids"] = torch.arange(3)
    assert list(by_name(state)) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_a_checkpoint_ties_what_shares_its_memory() -> None:
    embed, head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
    head.weight = embed.weight
    (found,) = census(nn.ModuleDict({"embed_tokens": embed, "lm_head": head}).state_dict())
    assert found.names == ("embed_tokens.weight", "lm_head.weight") and found.role == "embedding"


def test_a_view_of_a_part_is_not_the_whole() -> None:
    whole = torch.zeros(4, 4)
    assert len(census({"a_proj.weight": whole, "b_proj.weight": whole[:2]})) == 2


def test_tensors_count_as_trainable_and_parameters_as_they_say() -> None:
    frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)
    found = by_name(OrderedDict({"a_proj.weight": torch.zeros(2, 2), "b_proj.weight": frozen}))
    assert found["a_proj.weight"].trainable and not found["b_proj.weight"].trainable


# --- speed ------------------------------------------------------------------------------------------------------------


def seconds(model: nn.Module) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        census(model)
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.long
def test_the_time_grows_with_the_number_of_parameters_and_not_faster() -> None:
    def layers(count: int) -> nn.Module:
        with torch.device("meta"):
            return nn.Sequential(*(nn.Linear(1, 1) for _ in range(count)))

    def flat(count: int) -> nn.Module:
        module = nn.Module()
        for index in range(count):
            module.register_parameter(f"p{index}", nn.Parameter(torch.empty(1, device="meta")))
        return module

    def tied(count: int) -> nn.Module:
        with torch.device("meta"):
            return nn.ModuleList([nn.Embedding(1, 1)] * count)

    for make in (layers, flat, tied):
        small, large = seconds(make(500)), seconds(make(8_000))
        # 16 times as many; a square would be 256. The rest is room for a busy machine.
        assert large < 64 * small, f"{make.__name__}: {small:.3f} s, then {large:.3f} s"
