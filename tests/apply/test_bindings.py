"""From references and masks, which are values, to the tensors that a hook reads."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay.apply.bindings import digest, mask_tensors, reference_tensors
from torchdecay.plans.references import as_mask, as_reference
from torchdecay.plans.tensor_files import read_tensors

NAMES = ["a", "b"]


def params():
    return [nn.Parameter(torch.full((2, 3), 1.0)), nn.Parameter(torch.full((3,), 2.0))]


def state():
    return {"a": torch.full((2, 3), 5.0), "b": torch.full((3,), 6.0)}


def test_no_reference_is_zero():
    """None stands for 0, so that nothing is allocated."""
    assert reference_tensors(None, NAMES, params(), {}) == [None, None]


def test_initial_is_a_copy():
    """The weights move, the reference stays."""
    tensors = params()
    found = reference_tensors(as_reference("initial"), NAMES, tensors, {})
    tensors[0].data.zero_()
    assert torch.equal(found[0], torch.full((2, 3), 1.0))


def test_a_models_own_state_dict_is_copied():
    """model.state_dict() holds the weights themselves: as a reference it would move along and never pull."""
    model = nn.Linear(2, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = td.attach(optimizer, td.plan(model, td.toward(model.state_dict(), 0.5), rules=()), model=model)
    start = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    model.weight.grad, model.bias.grad = torch.zeros_like(model.weight), torch.zeros_like(model.bias)
    optimizer.step()
    assert torch.allclose(model.weight, start + 0.95)
    assert handle.lowering["weight"].route == "hook"


def test_tensors_of_other_dtype_come_in_the_parameters_dtype():
    """A half-precision checkpoint serves a float32 model."""
    source = {name: tensor.half() for name, tensor in state().items()}
    found = reference_tensors(as_reference(source), NAMES, params(), {})
    assert [tensor.dtype for tensor in found] == [torch.float32] * 2


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_names_are_seen_through_the_wrappers_of_a_checkpoint(prefix):
    """A state dict of a compiled or distributed model names the same weights."""
    source = {prefix + name: tensor for name, tensor in state().items()}
    found = reference_tensors(as_reference(source), NAMES, params(), {})
    assert torch.equal(found[0], state()["a"]) and torch.equal(found[1], state()["b"])


@pytest.mark.parametrize("kind", ["state dict", "bound", "torch file", "safetensors file"])
def test_a_parameter_that_the_reference_lacks_is_pulled_toward_0_and_the_lowering_says_so(kind, tmp_path):
    """A new head has no pretrained weights."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    tensors = {"0.weight": torch.full((2, 2), 3.0)}
    bind = {}
    reference = tensors
    if kind == "bound":
        reference, bind = "pretrained", {"pretrained": tensors}
    elif kind == "torch file":
        reference = tmp_path / "weights.pt"
        torch.save(tensors, reference)
    elif kind == "safetensors file":
        reference = tmp_path / "weights.safetensors"
        pytest.importorskip("safetensors.torch").save_file(tensors, reference)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = td.attach(optimizer, td.plan(model, td.toward(reference, 1.0)), model=model, bind=bind)
    assert "pulled toward 0" not in handle.lowering["0.weight"].why
    assert "the reference lacks it, so it is pulled toward 0" in handle.lowering["1.weight"].why
    before = [param.detach().clone() for param in model.parameters()]
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    optimizer.step()
    # lerp and mul round differently in the last digit.
    assert torch.allclose(model[0].weight, before[0] + 0.1 * (3.0 - before[0]))
    assert torch.allclose(model[1].weight, before[1] * 0.9)


REFUSED = {
    "no name in common": ({"c": torch.ones(2, 3)}, {}, "none of the parameters"),
    "empty": ("pretrained", {"pretrained": {}}, "none of the parameters"),
    "another shape": ({"a": torch.ones(3, 2), "b": torch.ones(3)}, {}, r'"a" of shape \(3, 2\)'),
    "not bound": ("pretrained", {"other": {}}, r'"pretrained" is not bound[\s\S]*bind='),
    "no names": ("pretrained", {"pretrained": torch.ones(2, 3)}, "bound to a Tensor"),
    "no tensors": ("pretrained", {"pretrained": {"a": 2.0}}, r'"a" is no tensor: it is of type float'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_references_that_do_not_fit_are_refused(name):
    """What, why and what to write instead."""
    reference, bind, said = REFUSED[name]
    with pytest.raises(td.ApplyError, match=said):
        reference_tensors(as_reference(reference), NAMES, params(), bind)


def test_a_file_that_changed_since_the_plan_was_made_is_refused(tmp_path):
    """The plan holds the file's hash."""
    path = tmp_path / "weights.pt"
    torch.save(state(), path)
    reference = as_reference(path)
    torch.save({name: tensor * 2 for name, tensor in state().items()}, path)
    with pytest.raises(td.LoadError, match="SHA-256 differs"):
        reference_tensors(reference, NAMES, params(), {})
    path.unlink()
    with pytest.raises(td.LoadError, match="there is no file"):
        reference_tensors(reference, NAMES, params(), {})


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


def test_files_that_are_no_tensors_are_refused_in_one_message(tmp_path, capsys):
    """Truncated, no checkpoint at all, one that asks to run code, or one that holds something else."""
    path = tmp_path / "weights.pt"
    torch.save(state(), path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a checkpoint"):
        path.write_bytes(content)
        with pytest.raises(td.LoadError, match="no checkpoint, or only a part"):
            read_tensors(path)
    torch.save({"a": Evil()}, path)
    with pytest.raises(td.LoadError, match="print would be called"):
        read_tensors(path)
    assert "code ran" not in capsys.readouterr().out
    torch.save({"a": 1.0}, path)
    with pytest.raises(td.LoadError, match="no weights by name"):
        read_tensors(path)
    safe = tmp_path / "weights.safetensors"
    safe.write_bytes(b"x" * 100)
    with pytest.raises(td.LoadError, match="no checkpoint, or only a part"):
        read_tensors(safe)


def test_a_state_dict_inside_a_checkpoint_is_found(tmp_path):
    """Trainers keep it under "state_dict"."""
    path = tmp_path / "weights.ckpt"
    torch.save({"state_dict": state(), "epoch": 3}, path)
    assert torch.equal(read_tensors(path)["a"], state()["a"])


def test_masks_that_do_not_fit_are_refused():
    """A row that is not there, a name that is not bound, another shape or dtype."""
    with pytest.raises(td.ApplyError, match=r'spares row 2 of "a", which has 2 rows'):
        mask_tensors(td.spare_rows(2), NAMES, params(), {})
    with pytest.raises(td.ApplyError, match=r"has 0 rows"):
        mask_tensors(td.spare_rows(0), ["scalar"], [nn.Parameter(torch.ones(()))], {})
    with pytest.raises(td.ApplyError, match=r'mask "keep" is not bound'):
        mask_tensors(as_mask("keep"), NAMES, params(), {})
    for wrong in (torch.ones(2, 3, dtype=torch.int), torch.ones(2, 1, dtype=torch.bool)):
        with pytest.raises(td.ApplyError, match=r"bool tensor of shape \(2, 3\)"):
            mask_tensors(as_mask("keep"), NAMES, params(), {"keep": {"a": wrong}})
    for wrong in (2.0, [[1.0]], torch.ones(2, 3).numpy()):
        with pytest.raises(td.ApplyError, match=r'"a" is no tensor[\s\S]*shape \(2, 3\)'):
            mask_tensors(as_mask("keep"), NAMES, params(), {"keep": {"a": wrong}})
    model = nn.Linear(2, 3)
    plan = td.plan(model, td.decoupled(0.1, mask="keep"))
    with pytest.raises(td.ApplyError, match=r'"keep" is bound to a Tensor[\s\S]*names of parameters'):
        td.attach(optim.AdamW(model.parameters()), plan, model=model, bind={"keep": torch.ones(3, 2)})


def test_a_mask_that_is_bound_for_what_is_not_there_is_refused():
    """A parameter without a mask is pulled everywhere: a wrong name would mean the opposite of what it says."""
    model = nn.Linear(2, 3)
    optimizer = optim.AdamW(model.parameters(), lr=0.1)
    plan = td.plan(model, td.decoupled(0.1, mask="keep"), rules=())
    whole = torch.ones(3, 2, dtype=torch.bool)
    with pytest.raises(td.ApplyError, match=r'bound for "wieght"[\s\S]*"weight"'):
        td.attach(optimizer, plan, model=model, bind={"keep": {"wieght": whole, "bias": whole[:, 0]}})
    with pytest.raises(td.ApplyError, match="has none of the parameters that it is for"):
        td.attach(
            optimizer,
            td.plan(model, {"weight": td.decoupled(0.1, mask="keep")}["weight"]),
            model=model,
            bind={"keep": {"bias": whole[:, 0]}},
        )
    with pytest.raises(td.ApplyError, match="has none of the parameters that it is for"):
        td.attach(optimizer, plan, model=model, bind={"keep": {}})
    td.attach(optimizer, plan, model=model, bind={"keep": {"module.weight": whole}}).remove()


MASKED = [
    td.coupled(0.3, mask=td.spare_rows(0, 2)),
    td.decoupled(0.3, mask=td.spare_rows(0, 2)),
    td.independent(0.3, mask=td.spare_rows(0, 2)),
    td.per_step(0.3, mask=td.spare_rows(0, 2)),
    td.penalized(0.3, mask=td.spare_rows(0, 2)),
    td.l1(0.3, mask=td.spare_rows(0, 2)),
    td.elastic_net(l1=0.3, l2=0.3, mask=td.spare_rows(0, 2)),
    td.toward({"weight": torch.ones(4, 3)}, 0.3, mask=td.spare_rows(0, 2)),
    td.decoupled(0.3, mask="keep"),
]


@pytest.mark.parametrize("decay", MASKED, ids=repr)
@pytest.mark.parametrize("cls", [optim.SGD, optim.Adam, optim.AdamW], ids=lambda cls: cls.__name__)
def test_masked_rows_are_as_without_decay_bit_for_bit(decay, cls):
    """Padding rows get the optimizer's update and nothing else, at every site; the others decay."""

    def run(decay):
        torch.manual_seed(0)
        model = nn.Embedding(4, 3)
        optimizer = cls(model.parameters(), lr=0.1, weight_decay=0.0)
        keep = torch.tensor([[False], [True], [False], [True]]).expand(4, 3)
        plan = td.plan(model, decay, rules=())
        handle = td.attach(optimizer, plan, model=model, bind={"keep": {"weight": keep}})
        for step in range(4):
            optimizer.zero_grad()
            loss = model(torch.tensor([0, 1, 2, 3])).square().sum() * step
            (loss + handle.penalty(model)).backward()
            optimizer.step()
        return model.weight.detach()

    plain, decayed = run(None), run(decay)
    spared = [0, 2]
    assert torch.equal(decayed[spared], plain[spared])
    assert not torch.isclose(decayed[[1, 3]], plain[[1, 3]]).any()


def test_the_digest_sees_every_byte():
    """One changed element, or another order, is another reference."""
    tensors = [torch.arange(6.0).reshape(2, 3), None, torch.ones(2, dtype=torch.bfloat16), torch.empty(0)]
    same = [torch.arange(6.0).reshape(3, 2).reshape(2, 3).t().contiguous().t(), None, tensors[2].clone(), tensors[3]]
    assert digest(tensors) == digest(same)
    changed = [tensors[0].clone(), *tensors[1:]]
    changed[0][1, 2] += 1e-6
    assert digest(tensors) != digest(changed)
    assert digest(tensors) != digest(tensors[::-1])
