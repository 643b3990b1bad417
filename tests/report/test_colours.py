"""Both themes can be read, also by those who see fewer colours than others."""

import re
from importlib import resources
from itertools import combinations

import numpy as np
import pytest

from latent_assay.diagnosis import VERDICTS
from latent_assay.plots.style import STRONG, css_variables


def colours(sheet: str = "report.css") -> dict[str, tuple[str, str]]:
    css = resources.files("latent_assay.report").joinpath(sheet).read_text()
    pattern = r"(--[\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)"
    return {name: (light, dark) for name, light, dark in re.findall(pattern, css)}


def rgb(colour: str) -> list[float]:
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def luminance(channels: list[float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a: list[float], b: list[float]) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast(theme):
    palette = {name: rgb(pair[theme]) for name, pair in colours().items()}
    for ground in ("--paper", "--panel", "--raised", "--wash"):
        for text in ("--ink", "--muted", "--accent", "--oracle", "--warning"):
            assert contrast(palette[text], palette[ground]) >= 4.5, (text, ground)
    for name in (f"--series-{i}" for i in range(1, 7)):
        assert contrast(palette[name], palette["--paper"]) >= 3, name
    for heat in ("--heat", "--cold"):
        assert contrast(palette["--ink"], palette[heat]) >= 4.5, heat
    for hue in ("--positive", "--negative"):
        for step in range(101):
            strength = step / 100
            ground = [
                strength * a + (1 - strength) * b
                for a, b in zip(palette[hue], palette["--panel"], strict=True)
            ]
            text = "--on-strong" if strength >= STRONG else "--on-faint"
            assert contrast(palette[text], ground) >= 4.5, (hue, strength)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_every_verdict_has_a_colour_that_stands_out(theme):
    paper = rgb(colours()["--paper"][theme])
    verdicts = colours("diagnosis/diagnosis.css")
    assert {f"--verdict-{verdict}" for verdict in VERDICTS} == set(verdicts)
    assert len({pair[theme] for pair in verdicts.values()}) == len(VERDICTS)
    for name, pair in verdicts.items():
        assert contrast(rgb(pair[theme]), paper) >= 3, name


def test_figures_and_page_agree_on_colours():
    page = colours()
    for colour, name in css_variables().items():
        assert page[name][0] == colour, name


# Machado, Oliveira & Fernandes 2009, severity 1; rows act on linear RGB.
DEFICIENCIES = {
    "none": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)


def lab(colour: str, deficiency: str) -> np.ndarray:
    channels = np.array(rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(DEFICIENCIES[deficiency]) @ linear, 0, 1)
    x, y, z = np.cbrt(np.array(TO_XYZ) @ seen / (0.95047, 1.0, 1.08883))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_series_can_be_told_apart(theme, deficiency):
    page = colours()
    seen = [lab(page[f"--series-{i}"][theme], deficiency) for i in range(1, 7)]
    differences = [np.linalg.norm(a - b) for a, b in combinations(seen, 2)]
    assert min(differences) > 8  # a difference of about 2 is just noticeable
