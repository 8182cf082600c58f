"""What a plan says of one optimizer's parameters, written in few words: each decay once, and by place who has which."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import Any

from torchdecay.encoding import decode, encode
from torchdecay.plans.decay import Decay


@dataclass(frozen=True)
class Entry:
    """A decay as it is written: as JSON, and the hash of its form alone."""

    form: str
    text: str

    @classmethod
    def of(cls, decay: Decay | None) -> Entry:
        """How a decay is written."""
        if decay is None:
            return cls("", "null")
        return cls(hashed(json.dumps(encode(decay.form, opaque=True))), json.dumps(encode(decay, opaque=True)))

    @property
    def decay(self) -> Decay | None:
        """The decay, in which functions are only described."""
        made: Decay | None = decode(json.loads(self.text), Decay | None, callables="describe")
        return made


NOTHING = Entry("", "null")


class Ledger:
    """What a plan says of each parameter of an optimizer, by group and place.

    Attributes:
        names: of the parameters that have a row, by group.
    """

    def __init__(self, names: Sequence[Sequence[str]], decays: Mapping[str, Decay | None]) -> None:
        """The names by group, "" for a parameter without a row, and the decay of each."""
        self.names = [[name for name in group if name] for group in names]
        self._all_names = names
        # Most rows share one Decay, which is written once.
        made: dict[int, Entry] = {id(None): NOTHING}
        for decay in decays.values():
            if id(decay) not in made:
                made[id(decay)] = Entry.of(decay)
        self._entries = [[made[id(decays.get(name))] for name in group] for group in names]

    def _named(self) -> Iterator[tuple[str, Entry]]:
        for names, entries in zip(self._all_names, self._entries, strict=True):
            yield from ((name, entry) for name, entry in zip(names, entries, strict=True) if name)

    @cached_property
    def who(self) -> str:
        """A hash of who decays in which form."""
        return _of_all(f"{name}\0{entry.form}" for name, entry in self._named() if entry != NOTHING)

    @cached_property
    def decays(self) -> str:
        """A hash of who decays how, and how hard."""
        return _of_all(f"{name}\0{entry.text}" for name, entry in self._named())

    @cached_property
    def orders(self) -> list[dict[str, str]]:
        """Of each group's names a hash as they stand, and one as they are sorted."""
        return [{"in order": _order(own), "sorted": _order(sorted(own))} for own in self.names]

    @cached_property
    def written(self) -> dict[str, Any]:
        """For a checkpoint: the decays there are, and in each group whose turn is which."""
        return write(self._entries)

    @cached_property
    def written_by_name(self) -> list[dict[str, Any]]:
        """The same for each group alone, its parameters sorted by name."""
        return [write([[entry for _, entry in named]]) for named in self._sorted]

    @cached_property
    def _sorted(self) -> list[list[tuple[str, Entry]]]:
        pairs = zip(self._all_names, self._entries, strict=True)
        return [sorted(filter(itemgetter(0), zip(*one, strict=True)), key=itemgetter(0)) for one in pairs]

    def beside(
        self, saved: Sequence[Sequence[Entry | None]], *, by_name: bool = False
    ) -> dict[str, tuple[Entry, Entry]]:
        """What a checkpoint and this say of each parameter, where they differ; of None the checkpoint says nothing.

        Args:
            saved: what the checkpoint says, by group and place.
            by_name: whether each group's are sorted by name there.
        """
        found = {}
        placed = [list(zip(*pair, strict=True)) for pair in zip(self._all_names, self._entries, strict=True)]
        for own, theirs in zip(self._sorted if by_name else placed, saved, strict=False):
            for (name, mine), their in zip(own, theirs, strict=False):
                if name and their is not None and mine != their:
                    found[name] = their, mine
        return found


def write(groups: Sequence[Sequence[Entry | None]]) -> dict[str, Any]:
    """The decays that there are, and in each group, place by place, which: "0x3 1" is the first three times."""
    known: dict[Entry, int] = {}
    rows = []
    for group in groups:
        runs = [(entry, sum(1 for _ in run)) for entry, run in groupby(group)]
        numbers = [("-" if entry is None else str(known.setdefault(entry, len(known))), count) for entry, count in runs]
        rows.append(" ".join(number if count == 1 else f"{number}x{count}" for number, count in numbers))
    return {"decays": [[entry.form, entry.text] for entry in known], "rows": rows}


def read(written: dict[str, Any]) -> list[list[Entry | None]]:
    """What `write` wrote."""
    known = {str(number): Entry(*pair) for number, pair in enumerate(written["decays"])}
    groups = []
    for row in written["rows"]:
        runs = [run.partition("x") for run in row.split()]
        groups.append([known.get(number) for number, _, count in runs for _ in range(int(count or 1))])
    return groups


def hashed(text: str) -> str:
    """Twelve hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _order(names: Iterable[str]) -> str:
    return hashed("\n".join(names))


def _of_all(lines: Iterable[str]) -> str:
    return hashed(json.dumps(sorted(lines)))
