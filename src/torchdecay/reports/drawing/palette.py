"""Colors, dashes and markers of the charts: told apart without color vision, in light, in dark and on paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# Every pair of series stays apart under the three kinds of color blindness, and each is at least 3:1 on its page.
SERIES_LIGHT = ("#4a515c", "#0b5cd6", "#d8350f", "#0a9d8a", "#8f3690", "#b3873f")
SERIES_DARK = ("#8d939c", "#4593ff", "#f0803f", "#4fe3a3", "#f292cd", "#e4d23a")

# Weak to strong, for what has an order; the same hues in both, each at least 3:1 on its page.
RAMP_LIGHT = ("#bf8500", "#c7720d", "#d0601a", "#cf4f2f", "#cf3f45", "#bf3458", "#b02a6c", "#9d2a7f",
              "#8a2a92", "#742a94", "#5f2a96", "#472287", "#2f1a78")  # fmt: skip
RAMP_DARK = ("#f5d547", "#f7be48", "#f9a84a", "#f79456", "#f58062", "#ef757c", "#ea6a96", "#dd6daf",
             "#d070c8", "#bc75d6", "#a97be4", "#927ee7", "#7c82ea")  # fmt: skip

# Of each color of the page: in light, and in dark.
_PAGE = {
    "page": ("#f5f6f8", "#0e1216"),
    "card": ("#ffffff", "#161b21"),
    "ink": ("#14181d", "#eef1f4"),
    "muted": ("#535d68", "#a3adb8"),
    "grid": ("#e3e7ec", "#262d35"),
    "axis": ("#9aa4af", "#65707c"),
    "accent": ("#0b57b0", "#7cbcff"),
    "notice": ("#fff3d6", "#33290f"),
    "notice-ink": ("#563b00", "#ffe0a0"),
    "loss": ("#14181d", "#eef1f4"),
    "penalty": ("#535d68", "#a3adb8"),
    "total": ("#8f3690", "#f292cd"),
    "held": ("#0a9d8a", "#4fe3a3"),
    **{f"s{i}": pair for i, pair in enumerate(zip(SERIES_LIGHT, SERIES_DARK, strict=True))},
    **{f"r{i}": pair for i, pair in enumerate(zip(RAMP_LIGHT, RAMP_DARK, strict=True))},
}
Colors = Mapping[str, str]
LIGHT: Colors = MappingProxyType({name: light for name, (light, _) in _PAGE.items()})
DARK: Colors = MappingProxyType({name: dark for name, (_, dark) in _PAGE.items()})
TEXT, SMALL = 12.5, 11.5
"""Sizes of words in charts."""

# Drawn instead of a color and replaced by var(--name) afterwards; no chart uses these values for anything else.
SENTINELS: Colors = MappingProxyType({name: f"#fe{i:02x}fd" for i, name in enumerate(LIGHT)})

_DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (7, 2.5),
    (2, 2),
    (8, 2, 2, 2),
    (12, 3),
    (4, 1.5, 1.5, 1.5, 1.5, 1.5),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")


@dataclass(frozen=True)
class Style:
    """How one series looks: a color name of the palette, dashes in line widths, a matplotlib marker."""

    color: str
    dashes: tuple[float, ...]
    marker: str

    @property
    def linestyle(self) -> tuple[float, tuple[float, ...] | None]:
        """As matplotlib wants it."""
        return (0, self.dashes or None)


def styles(count: int, *, baseline: int | None = None) -> list[Style]:
    """One style per series, the `baseline` gray; no two of the first hundred are alike."""
    colors = [f"s{i}" for i in range(1, len(SERIES_LIGHT))]
    made, others = [], 0
    for index in range(count):
        if index == baseline:
            made.append(Style("s0", (), _MARKERS[0]))
            continue
        # Counts without a common divisor, so that a color comes back with other dashes and another marker.
        place = others + (baseline is not None)
        dashes, marker = _DASHES[place % len(_DASHES)], _MARKERS[place % len(_MARKERS)]
        made.append(Style(colors[others % len(colors)], dashes, marker))
        others += 1
    return made


def ramp(count: int) -> list[Style]:
    """Styles for an ordered series, weak to strong; up to `len(RAMP_LIGHT)` of them differ in color."""
    last = len(RAMP_LIGHT) - 1
    return [
        Style(f"r{round(last * (i / (count - 1) if count > 1 else 0.5))}", (), _MARKERS[i % len(_MARKERS)])
        for i in range(count)
    ]
