"""Values travel as JSON and come back the same, and reading a file never runs what it names."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import torchdecay as td
from plans.examples import DECAYS, LAMBDA, double, values_of_every_type
from torchdecay import encoding
from torchdecay.encoding import Opaque, decode, described, encode, is_opaque
from torchdecay.errors import LoadError
from torchdecay.kinds import kind_of
from torchdecay.plans.decay import Scale, Site
from torchdecay.plans.references import Tensors
from torchdecay.plans.regularizers import L2, ElasticNet
from torchdecay.plans.schedules import Constant, Custom, Linear, Schedule, Warmup
from torchdecay.records import JsonRecord


def through_json(value: Any, **how: Any) -> Any:
    return decode(json.loads(json.dumps(encode(value))), **how)


# ── Round trips ──


@pytest.mark.parametrize("value", values_of_every_type(), ids=lambda value: type(value).__name__)
def test_a_value_of_every_registered_type_comes_back_equal(value: Any) -> None:
    """Each value that a plan may hold survives a file, so that a saved plan is the plan."""
    again = through_json(value, callables="import")
    assert again == value
    assert type(again) is type(value)


def test_every_registered_type_has_an_example_here() -> None:
    """A value type that is added later must come with a round trip."""
    assert {type(value).__name__ for value in values_of_every_type()} == set(encoding._KNOWN)


@pytest.mark.parametrize("decay", DECAYS, ids=repr)
def test_every_preset_comes_back_equal(decay: td.Decay) -> None:
    """A decay from a file prints, compares and hashes as the one that was written."""
    again = through_json(decay)
    assert (again, repr(again), hash(again)) == (decay, repr(decay), hash(decay))


@pytest.mark.parametrize("value", [(), (1, 2), [], [0.9, 0.99], ([1], (2,)), [(1, [2])]], ids=repr)
def test_lists_stay_lists_and_tuples_tuples(value: Any) -> None:
    """An option such as betas=[0.9, 0.99] must not come back as another value, or every diff would show it."""
    again = through_json(value)
    assert repr(again) == repr(value)


def test_fields_at_their_default_are_left_out() -> None:
    """A plan file shows what somebody chose, and nothing else."""
    assert set(encode(td.coupled(0.1))) == {"type", "coefficient", "site"}


def test_numbers_of_numpy_are_written_as_plain_numbers() -> None:
    """A coefficient picked from an array is as good as one that was typed."""
    numpy = pytest.importorskip("numpy")
    for number in (numpy.float32(0.1), numpy.float64(0.1), numpy.int64(3)):
        assert through_json(number) == number
        assert type(through_json(number)) in (int, float)


# ── What cannot be written ──


class Bag:
    def method(self, step: int) -> float:
        return float(step)

    @classmethod
    def of_class(cls, step: int) -> float:
        return float(step)

    def __call__(self, step: int) -> float:
        return 1.0


def local() -> Any:
    def inner(step: int) -> float:
        return 1.0

    return inner


@pytest.mark.parametrize(
    "function",
    [LAMBDA, local(), Bag().method, Bag(), functools.partial(double)],
    ids=["lambda", "local function", "bound method", "instance", "partial"],
)
def test_a_callable_that_no_name_leads_back_to_is_refused(function: Any) -> None:
    """A file that named something else (an unbound method, say) would run another function after loading."""
    with pytest.raises(LoadError, match="module:qualname"):
        encode(Custom(function))


@pytest.mark.parametrize("function", [double, Bag.of_class, len], ids=["function", "class method", "builtin"])
def test_a_callable_with_a_name_of_its_own_comes_back_itself(function: Any) -> None:
    """`module:qualname` is looked up when it is written, so that it is known to lead back."""
    assert through_json(function, callables="import") == function


def test_a_function_whose_name_was_taken_by_another_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands under the name now would be loaded in place of what is meant."""
    module = sys.modules[double.__module__]
    monkeypatch.setattr(module, "double", lambda step: 0.0)
    with pytest.raises(LoadError, match="module:qualname"):
        encode(double)


@pytest.mark.parametrize("value", [torch.ones(2), {"a": 1}, {1, 2}, object(), 1j], ids=lambda v: type(v).__name__)
def test_what_json_cannot_hold_is_refused_with_a_way_out(value: Any) -> None:
    """Tensors in memory and their like would come back as something else, or not at all."""
    with pytest.raises(LoadError, match="cannot be written as JSON") as caught:
        encode(value)
    assert "bind" in caught.value.fix


@dataclasses.dataclass(frozen=True)
class UserLinear(Schedule):
    start: float
    end: float
    num_steps: int

    def __call__(self, step: int, lr_ratio: float = 1.0) -> float:
        return 7.0


UserLinear.__name__ = "Linear"


def test_a_users_class_is_not_taken_for_ours_of_the_same_name() -> None:
    """A user's own Linear would silently become ours after loading."""
    written = encode(UserLinear(0.0, 1.0, 2))
    assert written["class"].endswith("test_records:UserLinear")
    with pytest.raises(LoadError):
        decode(written)
    assert decode(written, callables="import") == UserLinear(0.0, 1.0, 2)
    assert encode(Linear(0, 1, 2))["type"] == "Linear"


# ── Opaque: described, where it stands ──


def test_an_opaque_value_is_described_where_it_stands() -> None:
    """Only the lambda is lost: the decay around it stays a Decay, with its form and coefficient."""
    decay = td.decoupled(0.1, schedule=td.schedules.warmup(5, then=Custom(LAMBDA)))
    again = decode(encode(decay, opaque=True))
    assert isinstance(again, td.Decay)
    assert (again.coefficient, again.site, again.form) == (0.1, Site.BEFORE, decay.form)
    assert isinstance(again.schedule, Warmup)
    assert again.schedule.num_steps == 5
    assert is_opaque(again)
    assert not is_opaque(decay)


def test_a_description_holds_no_address() -> None:
    """The same plan must be the same text in every process, or a file kept in a repository would always differ."""
    text = json.dumps(encode((Custom(LAMBDA), Custom(local()), object()), opaque=True))
    assert "0x" not in text
    assert "<lambda>" in text


def test_a_reference_in_memory_is_described_only_when_asked() -> None:
    """Tensors never go into a plan file; their description may, where a plan is only to be shown."""
    decay = td.toward({"weight": torch.ones(2)}, 0.1)
    with pytest.raises(LoadError):
        encode(decay)
    assert decode(encode(decay, opaque=True)).reference == Opaque("<1 tensors>")


def test_described_is_what_a_file_read_with_describe_holds() -> None:
    """It makes a live plan comparable with one whose callables were only described."""
    decay = td.decoupled(0.1, schedule=Custom(double))
    assert described(decay) == through_json(decay, callables="describe")
    assert described(decay) != decay
    assert is_opaque(described(decay))


# ── Reading ──


def test_a_callable_is_refused_unless_the_caller_trusts_the_file() -> None:
    """A plan file from a stranger must not be able to name code that we then run."""
    with pytest.raises(LoadError, match='callables="import"'):
        through_json(Custom(double))


@pytest.mark.parametrize("how", ["refuse", "describe"])
def test_reading_imports_nothing_unless_allowed(how: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing is running: the module that a file names stays untouched, until "import" is said."""
    (tmp_path / "planted_module.py").write_text("def schedule(step):\n    return 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    data = {"type": "callable", "value": "planted_module:schedule"}
    try:
        assert decode(data, callables=how) == Opaque("planted_module:schedule")
    except LoadError:
        assert how == "refuse"
    assert "planted_module" not in sys.modules
    assert decode(data, callables="import")(3) == 1.0
    assert sys.modules.pop("planted_module")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere_at_all:f", "No module"),
        ("math:nothing", "nothing"),
        ("math:pi", "not callable"),
        ("math.pi:real", "math.pi"),
        ("broken_module:f", "SyntaxError"),
        ("..:f", "not of the form"),
        ("math:", "not of the form"),
        ("math", "not of the form"),
        ("math:sin;print", "not of the form"),
        ("os:system\n", "not of the form"),
    ],
)
def test_a_callable_that_cannot_be_found_is_one_clear_error(
    name: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong while importing is told as the file's fault, not as a traceback of ours."""
    (tmp_path / "broken_module.py").write_text("def (:\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(LoadError) as caught:
        decode({"type": "callable", "value": name}, callables="import")
    assert why in str(caught.value)


BASE = encode(td.independent(0.1, max_lr=0.5, schedule=Linear(0, 1, 10)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"type": "Decai"}, 'Nearest: "Decay"'),
        ({"type": "Decay2"}, "newer version"),
        ({"type": None}, "unknown type"),
        ({"type": ["Decay"]}, "unknown type"),
        ({"coeficient": 0.1}, 'Nearest: "coefficient"'),
        ({"coefficient": -1.0}, "outside its range"),
        ({"coefficient": "0.1"}, "coefficient of Decay"),
        ({"coefficient": True}, "coefficient of Decay"),
        ({"coefficient": None}, "coefficient of Decay"),
        ({"coefficient": float("nan")}, "nan"),
        ({"coefficient": [0.1]}, "coefficient of Decay"),
        ({"site": "behind"}, "site of Decay"),
        ({"site": {"type": "Site", "value": "behind"}}, "behind"),
        ({"site": {"type": "Scale", "value": "η"}}, "site of Decay"),
        ({"proximal": "no"}, "proximal of Decay"),
        ({"regularizer": None}, "regularizer of Decay"),
        ({"regularizer": {"type": "L1", "l1": 3}}, 'no field "l1"'),
        ({"regularizer": {"type": "ElasticNet", "l1": 3}}, "l2"),
        ({"schedule": {"type": "Linear", "start": 0, "end": 1, "num_steps": 1.5}}, "num_steps of Linear"),
        ({"schedule": {"type": "Linear", "start": 0, "end": 1, "num_steps": 0}}, "at least 1|num_steps is 0"),
        ({"schedule": {"type": "Piecewise", "milestones": [1, 2]}}, "milestones of Piecewise"),
        ({"schedule": {"type": "Piecewise", "milestones": [[1, 2, 3]]}}, "milestones of Piecewise"),
        ({"schedule": {"type": "Custom", "function": 3}}, "function of Custom"),
        ({"schedule": 0.5}, "schedule of Decay"),
        ({"mask": {"type": "SpareRows", "rows": 3}}, "rows of SpareRows"),
        ({"mask": {"type": "SpareRows", "rows": [-3]}}, "spare_rows row"),
        ({"reference": "initial"}, "reference of Decay"),
        ({"max_lr": 0}, "max_lr"),
    ],
    ids=lambda case: json.dumps(case) if isinstance(case, dict) else "",
)
def test_a_file_edited_by_hand_is_refused_with_the_field(change: dict[str, Any], says: str) -> None:
    """Each slip of a typist is one LoadError that names the field, not a TypeError far away or a plan that lies."""
    with pytest.raises(LoadError, match=says):
        decode(BASE | change)


def test_a_missing_field_is_named() -> None:
    """The message says which field the file lacks."""
    data = {key: item for key, item in BASE.items() if key != "site"}
    with pytest.raises(LoadError, match="site"):
        decode(data)


def test_the_unedited_file_is_read() -> None:
    """The base of the cases above is good, so that each of them is refused for its change alone."""
    assert decode(BASE) == td.independent(0.1, max_lr=0.5, schedule=Linear(0, 1, 10))


def test_whole_numbers_may_stand_for_floats() -> None:
    """JSON written by other tools has 1 where we write 1.0."""
    assert decode(encode(ElasticNet(1.0, 0.5)) | {"l1": 1}) == ElasticNet(1.0, 0.5)


@pytest.mark.parametrize("value", [L2(), Constant(), Site.LOSS, Scale.LR, (1, "a", None), 0.5, "text"], ids=repr)
def test_plain_values_hide_nothing_opaque(value: Any) -> None:
    """`is_opaque` is false for everything that can run."""
    assert not is_opaque(value)


@pytest.mark.parametrize(
    "value",
    [Opaque("x"), (1, (Opaque("x"),)), Custom(Opaque("x")), td.coupled(0.1, schedule=Opaque("x"))],  # type: ignore[arg-type]
    ids=repr,
)
def test_an_opaque_value_is_found_however_deep_it_stands(value: Any) -> None:
    """A plan that holds one can't be carried out, wherever it is."""
    assert is_opaque(value)


def test_tensors_compare_by_identity() -> None:
    """Comparing two checkpoints number by number would be slow, and == on tensors is no bool."""
    tensors = {"a": torch.ones(2)}
    assert Tensors(tensors) == Tensors(tensors)
    assert Tensors(tensors) != Tensors({"a": torch.ones(2)})


# ── Files of results ──


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    name: str
    curve: tuple[float, ...] | None
    most: float | None = None
    pairs: tuple[tuple[str, float], ...] = ()
    _only_here: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome(JsonRecord, kind="outcome"):
    _derived: ClassVar = ("ok",)
    parts: tuple[Part, ...]
    site: Site = Site.LOSS
    first: Part | None = None
    by_name: Mapping[str, Part] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    number: Any = None

    @property
    def ok(self) -> bool:
        return bool(self.parts)


HUGE = Part(name="a", curve=(0.1, math.inf, -math.inf, 3.0), pairs=(("b", 1e300),), _only_here=3)
OUTCOME = Outcome(parts=(HUGE,), site=Site.AFTER, by_name={"type": Part(name="c", curve=None)}, number=math.inf)


def test_a_result_comes_back_equal_by_its_hints() -> None:
    """Sequences, mappings, enums, infinities and numbers of which no hint tells; what is private stays in memory."""
    again = Outcome.from_json(OUTCOME.to_json())
    assert again == dataclasses.replace(OUTCOME, parts=(dataclasses.replace(HUGE, _only_here=0),))


def test_a_result_is_written_for_readers_of_any_language() -> None:
    """Standard JSON: a header, no tags where the hint tells the class, no NaN, and what Python would derive."""
    data = json.loads(OUTCOME.to_json(), parse_constant=pytest.fail)
    assert (data["format"], data["version"], data["ok"], data["site"]) == ("torchdecay.outcome", 1, True, "after")
    assert data["parts"][0]["curve"] == [0.1, "Infinity", "-Infinity", 3.0]
    assert data["parts"][0]["most"] is None and "_only_here" not in data["parts"][0]
    assert encoding.plain({"a": (math.nan, HUGE)})["a"][0] == "NaN"


def test_each_item_of_a_list_stands_on_a_line_of_its_own() -> None:
    """Files kept in a repository differ line by line."""
    lines = Outcome(parts=(HUGE, HUGE)).to_json().splitlines()
    assert sum('"name"' in line for line in lines) == 2


def test_where_a_hint_leaves_it_open_the_class_is_said() -> None:
    """Of two classes that may stand somewhere, none is taken for the other; a single one needs no name."""
    for hint in (Linear | Warmup, Site | Scale, Linear | Warmup | None):
        for value in (Linear(0.0, 1.0, 3), Warmup(2)) if hint != Site | Scale else (Site.LOSS, Scale.LR):
            data = encode(value, hint)
            assert data["type"] == type(value).__name__ and decode(data, hint) == value
    assert "type" not in encode(Warmup(2), Warmup | None) and encode(Site.LOSS, Site) == "loss"


def test_nan_is_one_spelling() -> None:
    """What other writers of JSON make of it is refused with the right one."""
    text = Outcome(parts=(Part(name="a", curve=(math.nan,)),)).to_json()
    assert '"NaN"' in text and math.isnan(Outcome.from_json(text).parts[0].curve[0])
    with pytest.raises(LoadError, match='NaN is not JSON, and here is written "NaN"'):
        Outcome.from_json(text.replace('"NaN"', "NaN"))


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-" + "9" * 30, str(2**64), "1e400", "1" * 5000], ids=len)
def test_numbers_that_nothing_can_be_are_refused(number: str) -> None:
    """Neither an overflow far away nor an infinity in silence."""
    for place in ('"most": null', '"most": 0.5'):
        text = Outcome(parts=(dataclasses.replace(HUGE, most=0.5),)).to_json().replace('"most": 0.5', place)
        with pytest.raises(LoadError):
            Outcome.from_json(text.replace(place, f'"most": {number}'))


@pytest.mark.parametrize("depth", [600, 100_000])
def test_a_tree_that_is_too_deep_is_refused(depth: int) -> None:
    """Wherever the recursion ends: in the parser, or in ours."""
    deep = '{"type": "Warmup", "num_steps": 1, "then": ' * depth + "null" + "}" * depth
    text = Outcome(parts=()).to_json().replace('"number": null', f'"number": {deep}')
    with pytest.raises(LoadError, match="not an outcome file"):
        Outcome.from_json(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not an outcome file: "),
        ("[]", "does not say format torchdecay.outcome"),
        ('{"format": "torchdecay.plan"}', 'but "torchdecay.plan"'),
        ('{"format": "torchdecay.outcome", "version": 7}', "of version 7(.|\n)*Upgrade"),
        ('{"format": "torchdecay.outcome", "version": 0, "versions": {"torchdecay": "0.0.1"}}', "by torchdecay 0.0.1"),
        ('{"format": "torchdecay.outcome", "version": 1}', "incomplete: it lacks parts"),
        ('{"format": "torchdecay.outcome", "version": 1, "parts": [{"name": 3}]}', "name of Part"),
        ('{"format": "torchdecay.outcome", "version": 1, "parts": [{"name": "a", "curve": [true]}]}', "curve of Part"),
        ('{"format": "torchdecay.outcome", "version": 1, "parts": [], "site": "η"}', "site of Outcome"),
    ],
)
def test_a_file_that_is_no_result_is_refused_with_what_it_is(text: str, says: str) -> None:
    """Another kind, another version, incomplete or edited: told, not thrown."""
    with pytest.raises(LoadError, match=says):
        Outcome.from_json(text)


def test_a_file_says_what_it_is() -> None:
    """Also one of lines, whose first is the header; what is not torchdecay's is told."""
    assert kind_of(OUTCOME.to_json()) == "outcome"
    assert kind_of('{"format": "torchdecay.history", "version": 1}\n{"series": []}\n{"torn') == "history"
    for text in ("", "{", "[]", "3", '{"format": 3}', '{"format": "other.plan"}', "[" * 100_000):
        with pytest.raises(LoadError, match="does not say"):
            kind_of(text)
