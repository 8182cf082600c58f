"""Canonical names: wrappers are seen through by what they are, not by what they are called."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper, offload_wrapper
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel

from torchdecay.plans.names import canonical, canonical_keys
from torchdecay.plans.tree import names_of, nodes, occurrences, parameters_by_name


class Trap(nn.Module):
    """Children with the names that wrappers use."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(2, 3)
        self.model = nn.ModuleDict({"base_model": nn.LayerNorm(3), "base_layer": nn.Linear(3, 2)})


PLAIN = [name for name, _ in Trap().named_parameters()]


@pytest.fixture
def gloo() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def two_fake_ranks() -> Iterator[None]:
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield
    dist.destroy_process_group()


def test_a_plain_model_keeps_every_name_even_where_children_are_called_as_wrappers_call_theirs() -> None:
    assert list(parameters_by_name(Trap())) == PLAIN


@pytest.mark.parametrize(
    "wrap",
    [
        torch.compile,
        nn.DataParallel,
        AveragedModel,
        checkpoint_wrapper,
        offload_wrapper,
        lambda m: torch.compile(nn.DataParallel(checkpoint_wrapper(m))),
        lambda m: AveragedModel(torch.compile(checkpoint_wrapper(nn.DataParallel(m)))),
    ],
    ids=["compile", "DataParallel", "AveragedModel", "checkpoint", "offload", "nested", "nested, other order"],
)
def test_wrappers_leave_the_names_as_they_were(wrap: object) -> None:
    wrapped = wrap(Trap())  # type: ignore[operator]
    assert list(parameters_by_name(wrapped)) == PLAIN
    assert [one.name for one in occurrences(nodes(wrapped))] == PLAIN


def test_ddp_leaves_the_names_as_they_were_alone_and_nested(gloo: None) -> None:
    wrapped = torch.compile(nn.parallel.DistributedDataParallel(checkpoint_wrapper(Trap())))
    assert list(parameters_by_name(wrapped)) == PLAIN


def test_fsdp1_leaves_the_names_as_they_were_and_wrappers_inside_it_too(two_fake_ranks: None) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = Trap()
    cpu = torch.device("cpu")
    model.module = FullyShardedDataParallel(checkpoint_wrapper(model.module), device_id=cpu, use_orig_params=True)
    wrapped = FullyShardedDataParallel(model, device_id=cpu, use_orig_params=True)
    assert list(parameters_by_name(wrapped)) == PLAIN


def test_fsdp2_leaves_the_names_as_they_were(two_fake_ranks: None) -> None:
    from torch.distributed.fsdp import fully_shard

    model = Trap()
    fully_shard(model.module)
    fully_shard(model)
    assert list(parameters_by_name(model)) == PLAIN


def test_a_wrapper_around_a_part_is_seen_through_where_it_stands() -> None:
    model = Trap()
    model.module = torch.compile(model.module)  # type: ignore[assignment]
    model.model["base_model"] = checkpoint_wrapper(model.model["base_model"])
    assert list(parameters_by_name(model)) == PLAIN


def test_peft_names_are_those_of_the_base_model_plus_the_adapters() -> None:
    peft = pytest.importorskip("peft")
    base = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    before = set(parameters_by_name(base))
    tuned = peft.get_peft_model(base, peft.LoraConfig(target_modules=["0"], r=2, modules_to_save=["1"]))
    after = set(parameters_by_name(torch.compile(tuned)))
    assert before <= after
    assert after - before == {
        "0.lora_A.default.weight",
        "0.lora_B.default.weight",
        "1.modules_to_save.default.weight",
        "1.modules_to_save.default.bias",
    }


def test_a_class_of_the_user_that_is_called_like_a_wrapper_is_not_taken_for_one() -> None:
    class DistributedDataParallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)

    assert list(parameters_by_name(DistributedDataParallel())) == ["module.weight", "module.bias"]


def test_a_subclass_of_a_wrapper_is_one() -> None:
    class Ours(nn.DataParallel):
        pass

    assert list(parameters_by_name(Ours(Trap()))) == PLAIN


def test_two_tensors_never_share_a_name() -> None:
    """A parameter beside the wrapped module may be called as one inside it."""
    averaged = AveragedModel(nn.Linear(2, 2))
    averaged.weight = nn.Parameter(torch.zeros(3))
    named = parameters_by_name(averaged)
    assert len(named) == len({id(p) for p in named.values()}) == 3
    assert set(named) == {"weight", "module.weight", "bias"}


def test_a_parametrized_weight_keeps_the_name_that_torch_gives_it() -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 3)))
    assert list(parameters_by_name(torch.compile(model))) == [name for name, _ in model.named_parameters()]


def test_names_alone_lose_unmistakable_segments_only() -> None:
    assert canonical("_orig_mod.module.a._checkpoint_wrapped_module.b.weight") == "module.a.b.weight"
    assert canonical("base_model.model.fc.weight") == "base_model.model.fc.weight"
    assert canonical("_fsdp_wrapped_module._orig_mod.fc.bias") == "fc.bias"


def test_a_checkpoint_loses_the_prefix_that_all_its_names_share() -> None:
    averaged = AveragedModel(Trap()).state_dict()
    assert [canonical_keys(averaged)[name] for name in averaged] == ["n_averaged", *PLAIN]
    lora = ["base_model.model.h.0.lora_A.weight", "base_model.model.h.0.lora_B.weight"]
    assert list(canonical_keys(lora).values()) == ["h.0.lora_A.weight", "h.0.lora_B.weight"]
    assert list(canonical_keys(PLAIN).values()) == PLAIN


def test_names_of_a_checkpoint_that_would_become_one_stay_apart() -> None:
    kept = canonical_keys(["_orig_mod.a.weight", "a.weight", "b.weight"])
    assert sorted(kept.values()) == ["_orig_mod.a.weight", "a.weight", "b.weight"]


def test_the_first_name_of_a_tied_weight_is_the_one_of_named_parameters() -> None:
    model = nn.ModuleDict({"head": nn.Linear(4, 6, bias=False), "embed": nn.Embedding(6, 4)})
    model["embed"].weight = model["head"].weight
    assert list(names_of(model).values()) == [name for name, _ in model.named_parameters()] == ["head.weight"]
    assert set(parameters_by_name(model)) == {"head.weight", "embed.weight"}


def test_a_shared_module_has_a_node_for_each_parent() -> None:
    shared = nn.Linear(2, 2)
    model = nn.ModuleList([nn.Sequential(shared), nn.Sequential(shared)])
    assert [node.path for node in nodes(model)] == ["", "0", "0.0", "1", "1.0"]
    assert set(parameters_by_name(model)) == {"0.0.weight", "0.0.bias", "1.0.weight", "1.0.bias"}


def test_a_module_that_holds_itself_ends_the_walk() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].owner = model
    assert list(parameters_by_name(model)) == ["0.weight", "0.bias"]


def test_the_order_is_that_of_named_parameters() -> None:
    model = nn.Transformer(8, 2, 2, 2, 16, batch_first=True)
    assert list(parameters_by_name(model)) == [name for name, _ in model.named_parameters()]
