"""`assay calibrate` end to end, small."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from latent_assay.cli import main
from latent_assay.diagnosis.calibration.page import BEGIN, END, spliced
from latent_assay.diagnosis.calibration_model import Calibration
from latent_assay.diagnosis.evidence import Tier
from latent_assay.diagnosis.verdict import FAILURES, Verdict
from latent_assay.errors import FormatError

DOCS = Path(__file__).parents[3] / "docs" / "calibration.md"
KEYS = {"precision", "recall", "support", "calibration_error"}


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    out = tmp_path_factory.mktemp("calibration")
    command = ["calibrate", "--quick", "--json", "--workers", "1", "--out", str(out)]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout), out


def test_every_verdict_has_its_figures(quick):
    figures, _ = quick
    assert set(figures["verdicts"]) == {failure.value for failure in FAILURES}
    for each in figures["verdicts"].values():
        assert set(each) >= KEYS
    for name in ("absorbed", "absorbing", "hedged", "duplicate", "dead"):
        assert figures["verdicts"][name]["support"] > 0
    assert figures["verdicts"]["dead"]["precision"] == 1
    assert figures["verdicts"]["dead"]["recall"] == 1
    assert figures["verdicts"]["duplicate"]["recall"] > 0.8


def test_nothing_was_fitted_on_what_is_held_out(quick):
    figures, out = quick
    worlds = figures["worlds"]
    assert not set(worlds["fitted"]) & set(worlds["held_out"])
    fitted = Calibration.read(out / "calibration.json")
    assert set(fitted.provenance["worlds"]) == set(worlds["fitted"])
    assert fitted.provenance["quick"]


def test_it_judges_every_tier(quick):
    _, out = quick
    models = Calibration.read(out / "calibration.json").models
    assert Verdict.DUPLICATE in models[Tier.WEIGHTS]
    assert set(models[Tier.CONTINUATION]) == set(models[Tier.ACTIVATIONS])


def test_false_verdicts_on_the_oracle_are_counted(quick):
    figures, _ = quick
    oracle = figures["oracle"]
    failures = sum(oracle["counts"].get(failure.value, 0) for failure in FAILURES)
    assert oracle["false_verdicts"] == pytest.approx(failures / oracle["latents"])
    assert oracle["latents"] == 28 + 54 + 26 + 20


def test_a_page_is_written(quick):
    _, out = quick
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "How far verdicts can be trusted" in page
    assert "calibration error" in page


def test_a_hurried_calibration_is_not_for_the_package():
    result = CliRunner().invoke(main, ["calibrate", "--quick", "--write"])
    assert result.exit_code == 2
    assert "`--quick` fits on far too few SAEs" in result.stderr


def test_the_documentation_has_figures_of_every_verdict():
    page = DOCS.read_text(encoding="utf-8")
    figures = page.split(BEGIN)[1].split(END)[0]
    for failure in FAILURES:
        assert f"| {failure.value.replace('_', ' ')} |" in figures
    assert "SAEs that know the true features" in figures


def test_figures_need_a_place():
    with pytest.raises(FormatError, match=r"must hold the lines .* once, one below the other"):
        spliced("no place", "figures", "'page.md'")
