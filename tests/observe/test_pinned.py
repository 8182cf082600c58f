"""What audit, inspect, forecast and Monitor say of many setups is what they said when it was written down.

After a change that is meant: `PYTHONPATH=src python tests/golden/pulls/recording.py --write NAME`, then read the diff.
"""

from __future__ import annotations

import pytest

from golden.pulls import recording
from golden.pulls.comparing import differences
from golden.pulls.setups import SETUPS

SHOWN = 12


@pytest.mark.parametrize("name", SETUPS)
def test_what_is_said_of_a_setup_is_what_was_pinned(name: str) -> None:
    found = differences(recording.read(name), recording.plain(recording.record(SETUPS[name])))
    more = [f"... and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    assert not found, "\n".join(
        [f"{name} says something else than tests/golden/pulls/{name}.json:", *found[:SHOWN], *more]
    )


def test_every_setup_is_pinned_and_nothing_else() -> None:
    assert {path.stem for path in recording.FOLDER.glob("*.json")} == set(SETUPS)
