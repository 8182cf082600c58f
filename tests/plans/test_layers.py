"""Learning rates by depth have the numbers of those who use them, and change nothing about who decays."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

import torchdecay as td


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attn, self.residual = nn.LayerNorm(4), nn.Linear(4, 4), nn.Conv2d(1, 1, 1)


class ViT(nn.Module):
    """Parameters as BEiT and detectron2's ViT have them."""

    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        self.cls_token, self.pos_embed = nn.Parameter(torch.zeros(1, 1, 4)), nn.Parameter(torch.zeros(1, 5, 4))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, 4, 2)})
        self.rel_pos_bias = nn.ParameterDict({"relative_position_bias_table": nn.Parameter(torch.zeros(9, 2))})
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(4), nn.Linear(4, 2)


def beit(name: str, depth: int) -> int:
    """BEiT's get_num_layer_for_vit, written down once more."""
    if name in ("cls_token", "mask_token", "pos_embed") or name.startswith("patch_embed"):
        return 0
    if name.startswith("rel_pos_bias"):
        return depth + 1
    return int(name.split(".")[1]) + 1 if name.startswith("blocks") else depth + 1


def detectron2(name: str, rate: float, depth: int) -> float:
    """detectron2's get_vit_lr_decay_rate, written down once more."""
    layer = depth + 1
    if name.startswith("backbone"):
        if ".pos_embed" in name or ".patch_embed" in name:
            layer = 0
        elif ".blocks." in name and ".residual." not in name:
            layer = int(name[name.find(".blocks.") :].split(".")[2]) + 1
    return float(rate ** (depth + 1 - layer))


def scales(model: nn.Module, key: str = "lr_scale", **given: Any) -> dict[str, float]:
    groups = td.param_groups(model, 0.1, rules=[*td.layerwise(model, **given), *td.STANDARD])
    return {name: group[key] for group in groups for name in group["param_names"]}


@pytest.mark.parametrize("layers", ["beit", None])
def test_the_numbers_are_beits(layers: Any) -> None:
    model = ViT()
    found = scales(model, decay=0.65, layers=layers)
    expected = {name: 0.65 ** (4 - beit(name, 3)) for name, _ in model.named_parameters()}
    if layers is None:
        # What is defined before the blocks is the stem, whatever it is called.
        expected["rel_pos_bias.relative_position_bias_table"] = 0.65**4
    assert found == expected


def test_the_numbers_are_detectron2s() -> None:
    model = nn.ModuleDict({"backbone": nn.ModuleDict({"net": ViT()}), "roi_heads": nn.Linear(4, 2)})
    found = scales(model, decay=0.7, layers="detectron2")
    assert found == {name: detectron2(name, 0.7, 3) for name, _ in model.named_parameters()}


@pytest.mark.peers
@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "convnext_atto", "swin_tiny_patch4_window7_224", "beit_base_patch16_224"]
)
def test_the_numbers_are_timms(name: str) -> None:
    timm = pytest.importorskip("timm", exc_type=ImportError)
    optim = pytest.importorskip("timm.optim", exc_type=ImportError)
    with torch.device("meta"):
        model = timm.create_model(name)
    named = {id(parameter): key for key, parameter in model.named_parameters()}
    groups = optim.param_groups_layer_decay(model, 0.1, layer_decay=0.8, min_scale=0.1)
    expected = {named[id(one)]: group["lr_scale"] for group in groups for one in group["params"]}
    assert scales(model, decay=0.8, min_scale=0.1) == expected


class Matched(ViT):
    """A matcher as timm's models have it: the last norm belongs to the last block."""

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {
            "stem": r"^cls_token|pos_embed|patch_embed",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }


def test_a_matcher_of_the_model_is_read_as_timm_reads_it() -> None:
    found = scales(Matched(), decay=0.5)
    assert found["cls_token"] == 0.5**4 and found["blocks.0.attn.weight"] == 0.5**3
    assert found["norm.weight"] == found["blocks.2.norm.bias"] == 0.5
    assert found["head.weight"] == found["rel_pos_bias.relative_position_bias_table"] == 1.0


def test_who_decays_stays_and_the_rate_is_multiplied_in() -> None:
    model = ViT()
    plain = td.plan(model, 0.1)
    deep = td.plan(model, 0.1, rules=[*td.layerwise(model, 0.5, lr=1e-3), *td.STANDARD])
    assert {row.name: row.decay for row in deep} == {row.name: row.decay for row in plain}
    assert scales(model, "lr", decay=0.5, lr=1e-3)["blocks.1.attn.weight"] == 1e-3 * 0.5**2
    torch.optim.AdamW(deep.param_groups(model), lr=1e-3)


def test_equal_groups_are_merged() -> None:
    """Two layers at the floor share a group, as do all at a decay of 1."""
    model = ViT()
    rules = td.layerwise(model, 0.5, min_scale=0.25)
    assert [dict(rule.options)["lr_scale"] for rule in rules] == [0.25, 0.5, 1.0]
    groups = td.param_groups(model, 0.1, rules=[*rules, *td.STANDARD])
    assert len(groups) == len({(group["lr_scale"], group["weight_decay"]) for group in groups}) == 6
    assert len(td.layerwise(model, 1.0)) == 1


def test_other_models_by_their_longest_row_of_blocks_or_by_a_function() -> None:
    layers = [nn.ModuleDict({"ff": nn.Sequential(nn.Linear(4, 4), nn.ReLU())}) for _ in range(4)]
    model = nn.ModuleDict({"embed": nn.Embedding(5, 4), "layers": nn.ModuleList(layers), "out": nn.Linear(4, 5)})
    found = scales(model, decay=0.5)
    assert found["embed.weight"] == 0.5**5 and found["layers.3.ff.0.weight"] == 0.5 and found["out.bias"] == 1.0
    by_hand = scales(model, decay=0.5, layers=lambda name: 0 if name.startswith("embed") else 1)
    assert by_hand["embed.weight"] == 0.5 and by_hand["layers.0.ff.0.weight"] == 1.0
    assert scales(nn.DataParallel(model), decay=0.5) == found


def test_what_has_no_depth_is_refused_with_the_way_out() -> None:
    row = [nn.Linear(4, 4) for _ in range(3)]
    two = nn.ModuleDict({"encoder": nn.Sequential(*row), "decoder": nn.Sequential(*row[:2], nn.Linear(4, 4))})
    for model, given, said in [
        (nn.Bilinear(2, 2, 2), {}, "no row of blocks"),
        (two, {}, "several rows"),
        (ViT(), {"layers": "timm"}, "no group_matcher"),
        (two, {"layers": "beit"}, "named as a block"),
        (ViT(), {"layers": "deit"}, "beit"),
        (ViT(), {"layers": lambda name: -1}, "gave -1"),
        (ViT(), {"decay": 0.0}, "decay"),
        (ViT(), {"decay": 1.5}, "decay"),
        (ViT(), {"min_scale": 2.0}, "min_scale"),
    ]:
        with pytest.raises(td.PlanError, match=re.escape(said)):
            td.layerwise(model, **given)  # type: ignore[arg-type]
