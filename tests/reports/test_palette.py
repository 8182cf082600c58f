"""The colors: readable, told apart without color vision, and never the only difference."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pytest

from torchdecay.reports.drawing.palette import (
    DARK,
    LIGHT,
    RAMP_DARK,
    RAMP_LIGHT,
    SENTINELS,
    SERIES_DARK,
    SERIES_LIGHT,
    ramp,
    styles,
)

Rgb = tuple[float, float, float]

# How each kind of color blindness mixes linear red, green and blue (Machado, Oliveira, Fernandes 2009, severity 1).
EYES = {
    "usual": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)),
    "deuteranopia": ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)),
    "tritanopia": ((1.256, -0.077, -0.179), (-0.078, 0.931, 0.148), (0.005, 0.691, 0.304)),
}


def linear(color: str) -> Rgb:
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return tuple(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue))  # type: ignore[return-value]


def contrast(one: str, other: str) -> float:
    def luminance(color: str) -> float:
        red, green, blue = linear(color)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def lab(color: Rgb) -> Rgb:
    red, green, blue = (min(1.0, max(0.0, c)) for c in color)
    xyz = (
        (0.4125 * red + 0.3576 * green + 0.1804 * blue) / 0.9505,
        0.2127 * red + 0.7152 * green + 0.0722 * blue,
        (0.0193 * red + 0.1192 * green + 0.9503 * blue) / 1.0888,
    )
    x, y, z = (c ** (1 / 3) if c > 0.008856 else 7.787 * c + 16 / 116 for c in xyz)
    return (116 * y - 16, 500 * (x - y), 200 * (y - z))


def least_difference(colors: Sequence[str], eye: Sequence[Sequence[float]]) -> float:
    seen = [
        lab(tuple(sum(m * c for m, c in zip(row, linear(color), strict=True)) for row in eye))  # type: ignore[arg-type]
        for color in colors
    ]
    return min(
        sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5
        for one, other in itertools.combinations(seen, 2)
    )


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_text_is_at_least_4_5_to_1(palette: Mapping[str, str]) -> None:
    """Whoever needs contrast can read every word, on the page and on a card."""
    for ink, ground in itertools.product(("ink", "muted", "accent"), ("page", "card")):
        assert contrast(palette[ink], palette[ground]) >= 4.5, (ink, ground)
    assert contrast(palette["notice-ink"], palette["notice"]) >= 4.5


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_lines_are_at_least_3_to_1(palette: Mapping[str, str]) -> None:
    """A line of a chart stands out from its card."""
    series = [*(f"s{i}" for i in range(len(SERIES_LIGHT))), *(f"r{i}" for i in range(len(RAMP_LIGHT)))]
    for name in [*series, "loss", "penalty", "total", "held"]:
        assert contrast(palette[name], palette["card"]) >= 3, name


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("colors", [SERIES_LIGHT, SERIES_DARK], ids=["light", "dark"])
def test_series_stay_apart_for_every_eye(colors: Sequence[str], eye: str) -> None:
    """Six decays can be told apart by people with any kind of color vision; 10 is a difference seen at a glance."""
    assert least_difference(colors, EYES[eye]) >= 12


def test_the_check_sees_red_beside_green() -> None:
    """A seeded fault: the classical pair that deuteranopes confuse does not pass."""
    assert (
        least_difference(("#a05030", "#607a2b"), EYES["usual"])
        > 12
        > least_difference(("#a05030", "#607a2b"), EYES["deuteranopia"])
    )


def test_no_two_series_look_alike_without_color() -> None:
    """In black and white each of the first six has dashes and a marker of its own, and a hundred are all different."""
    few = styles(6, baseline=0)
    assert len({style.dashes for style in few}) == len({style.marker for style in few}) == 6
    many = styles(100, baseline=2)
    assert len(set(many)) == 100
    assert many[2].color == "s0"
    assert len(set(styles(100))) == 100


@pytest.mark.parametrize("colors", [RAMP_LIGHT, RAMP_DARK], ids=["light", "dark"])
def test_a_ramp_gets_darker_step_by_step(colors: Sequence[str]) -> None:
    """Weak and strong are told apart in black and white, and neighbors by their markers too."""
    against_black = [contrast(color, "#000000") for color in colors]
    assert against_black == sorted(against_black, reverse=True)
    looks = ramp(len(colors))
    assert [style.color for style in looks] == [f"r{i}" for i in range(len(colors))]
    assert all(one.marker != other.marker for one, other in itertools.pairwise(looks))
    assert [style.color for style in ramp(2)] == ["r0", "r12"]
    assert len({style.color for style in ramp(12)}) == 12


def test_light_and_dark_name_the_same_colors() -> None:
    """A color missing in one of the two would be invisible there."""
    assert LIGHT.keys() == DARK.keys() == SENTINELS.keys()
    assert len(set(SENTINELS.values())) == len(SENTINELS)
    assert not set(SENTINELS.values()) & {*LIGHT.values(), *DARK.values()}
