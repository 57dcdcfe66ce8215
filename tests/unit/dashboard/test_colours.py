"""Colours of the page: contrast as WCAG 2.2 has it, and distances for those who see fewer."""

from __future__ import annotations

import itertools
import re

import pytest

from tests.tidy.sources import ROOT

CSS = (ROOT / "engine" / "dashboard" / "static" / "page.css").read_text()
TOKENS = {
    name: (light, dark)
    for name, light, dark in re.findall(
        r"--([a-z-]+):\s*light-dark\((#[0-9a-f]{3,6}),\s*(#[0-9a-f]{3,6})\)", CSS
    )
}
THEMES = {"light": 0, "dark": 1}
GROUNDS = ("bg", "card", "sunk", "raise", "bad-wash", "warn-wash")
STATES = ("waiting", "active", "delayed", "done", "retried", "dead")
LANES = ("critical", "high", "normal", "low")
TEXTS = ("text", "muted", "accent", *STATES)
SHAPES = ("control", "focus", *LANES)
"""Parts that are no text: WCAG 1.4.11 asks for less."""

# Machado, Oliveira and Fernandes 2009, severity 1, over linear RGB.
SIGHT = {
    "full": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deutan": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritan": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
STATE_DISTANCE_MIN = {"full": 14.0, "protan": 8.9, "deutan": 8.8, "tritan": 7.5}
LANE_DISTANCE_MIN = 8.0

Colour = tuple[float, float, float]


def linear(text: str) -> Colour:
    """Linear RGB of a colour as CSS writes it."""
    digits = text[1:] if len(text) == 7 else "".join(digit * 2 for digit in text[1:])
    red, green, blue = (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
    return _linear(red), _linear(green), _linear(blue)


def _linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else float(((part + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, "contrast ratio"."""
    low, high = sorted(
        0.2126 * red + 0.7152 * green + 0.0722 * blue
        for red, green, blue in (linear(one), linear(other))
    )
    return (high + 0.05) / (low + 0.05)


def seen(text: str, sight: str) -> Colour:
    """OKLab of a colour as it is seen."""
    rgb = linear(text)
    red, green, blue = (
        min(1.0, max(0.0, sum(weight * part for weight, part in zip(row, rgb, strict=True))))
        for row in SIGHT[sight]
    )
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    middle = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )


def distance(one: str, other: str, sight: str) -> float:
    """Euclidean distance in OKLab, times 100."""
    pairs = zip(seen(one, sight), seen(other, sight), strict=True)
    return 100 * float(sum((a - b) ** 2 for a, b in pairs) ** 0.5)


def test_the_formulas_give_what_is_known() -> None:
    assert round(contrast("#000", "#ffffff"), 2) == 21
    assert round(contrast("#777", "#fff"), 2) == 4.48
    lightness, a, b = seen("#fff", "full")
    assert (round(lightness, 3), round(abs(a), 3), round(abs(b), 3)) == (1, 0, 0)
    assert distance("#f00", "#0a0", "deutan") < distance("#f00", "#0a0", "full") / 2


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("ground", GROUNDS)
def test_contrast_suffices_on_every_ground(ground: str, theme: str) -> None:
    at = THEMES[theme]
    below = TOKENS[ground][at]
    least = dict.fromkeys(TEXTS, 4.5) | dict.fromkeys(SHAPES, 3.0)

    weak = {
        name: round(contrast(TOKENS[name][at], below), 2)
        for name, ratio in least.items()
        if contrast(TOKENS[name][at], below) < ratio
    }

    assert not weak


@pytest.mark.parametrize("theme", THEMES)
def test_text_on_the_accent_can_be_read(theme: str) -> None:
    at = THEMES[theme]

    assert contrast(TOKENS["on-accent"][at], TOKENS["accent"][at]) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("sight", SIGHT)
def test_states_can_be_told_apart(sight: str, theme: str) -> None:
    colours = [TOKENS[name][THEMES[theme]] for name in STATES]

    nearest = min(distance(*pair, sight) for pair in itertools.combinations(colours, 2))

    assert nearest >= STATE_DISTANCE_MIN[sight]


@pytest.mark.parametrize("theme", THEMES)
def test_lanes_can_be_told_from_their_neighbours(theme: str) -> None:
    colours = [TOKENS[name][THEMES[theme]] for name in LANES]

    nearest = min(distance(*pair, "full") for pair in itertools.pairwise(colours))

    assert nearest >= LANE_DISTANCE_MIN
