"""What audit, inspect, forecast and Monitor say of many setups is what they said when it was written down.

After a change that is meant: `PYTHONPATH=src python tests/golden/pulls/recording.py --write NAME`, then read the diff.
"""

from __future__ import annotations

import json

import pytest

from golden.pulls import recording
from golden.pulls.comparing import differences
from golden.pulls.setups import SETUPS
from this_torch import HAS_SWITCH

pytestmark = [pytest.mark.long, pytest.mark.skipif(not HAS_SWITCH, reason="pinned on a newer torch")]
SHOWN = 12


@pytest.mark.parametrize("name", SETUPS)
def test_what_is_said_of_a_setup_is_what_was_pinned(name: str) -> None:
    found = differences(recording.read(name), recording.plain(recording.record(SETUPS[name])))
    more = [f"... and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    assert not found, "\n".join([f"{name} is not as tests/golden/pulls/{name}.json has it:", *found[:SHOWN], *more])


def test_every_setup_is_pinned_and_nothing_else() -> None:
    assert {path.stem for path in recording.FOLDER.glob("*.json")} == set(SETUPS)


def test_another_code_is_a_difference() -> None:
    text = json.dumps(recording.read("coupled_adamw"))
    assert differences(json.loads(text), json.loads(text.replace("WD403", "WD402")))
    assert differences(json.loads(text), json.loads(text.replace("its gradient is zero", "no gradient")))


@pytest.mark.parametrize(
    "quantity", ["planned_shrink", "realized_shrink", "decay_norm", "rotation", "predicted_rotation"]
)
def test_a_thousandth_more_or_less_is_seen(quantity: str) -> None:
    """The tolerances leave room for roundings only."""
    pinned, now = recording.read("decoupled_adamw"), recording.read("decoupled_adamw")
    now["monitor by tensor"]["records"][1][quantity][-1] *= 1.001
    (line,) = differences(pinned, now)
    assert line.startswith(f"monitor by tensor / records / step 2 / {quantity} of head.weight: was ")
