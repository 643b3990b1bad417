"""Claims: their JSON, their numbers, their links, and that nothing in them is obeyed."""

import json
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_assay.errors import ConfigError
from latent_assay.plots import Band, Bins
from latent_assay.report import (
    Cell,
    Claim,
    ClaimGroup,
    ClaimOverview,
    Column,
    CosineMap,
    CosineMaps,
    Curve,
    Histogram,
    MetricsTable,
    Prose,
    Reading,
    Report,
    Row,
    TrainingCurves,
)
from latent_assay.report.claim_views import group_view
from latent_assay.report.reading import mean_and_spread
from latent_assay.report.views import Drawing, view_of
from tests.report.conftest import HOSTILE

GOOD = Reading(name="cosine", expected="0.95 to 1", measured=0.99981, sd=9.5e-6, passed=True)
BAD = Reading(name="order", expected="holds", measured=None, passed=False)


def claim(name: str = "a", *readings: Reading, **fields) -> Claim:
    return Claim(id=name, title=f"title of {name}", claim="c", readings=readings, **fields)


def maps(count: int = 1, features: int = 3) -> CosineMaps:
    own = tuple(CosineMap(name=f"SAE {i}", decoder=np.eye(3, features)) for i in range(count))
    return CosineMaps(title="maps", maps=own)


def table(columns: int, **fields) -> MetricsTable:
    keys = [f"key {i}" for i in range(columns)]
    return MetricsTable(
        title="table",
        columns=tuple(Column(key=k, label=k, direction="none", definition="") for k in keys),
        rows=(Row(name="row", kind="trained", cells={k: Cell(mean=1.0) for k in keys}),),
        **fields,
    )


def page_of(*claims: Claim) -> str:
    group = ClaimGroup(title="source", claims=claims)
    return Report(title="t", sections=(ClaimOverview(groups=(group,)), group)).to_html()


def test_a_claim_holds_if_all_its_readings_do():
    assert claim("a", GOOD).verdict == "holds"
    assert claim("a", GOOD, BAD).verdict == "does not hold"
    assert claim("a").verdict == "not tested"
    assert not claim("a").passed


def test_json_is_complete():
    tested = claim("a", GOOD, BAD, setup="s", errors="e", note="n", members=6, figures=(maps(),))
    group = ClaimGroup(title="source", claims=(tested, claim("b", GOOD)))
    content = Report(title="t", sections=(ClaimOverview(groups=(group,)), group)).to_json()
    overview, found = json.loads(json.dumps(content, allow_nan=False))["sections"]
    assert overview["kind"] == "claim_overview"
    assert (overview["passed"], overview["total"], overview["failed"]) == (1, 2, ["a"])
    assert [each["id"] for each in overview["groups"][0]["claims"]] == ["a", "b"]
    assert found["kind"] == "claim_group"
    first = found["claims"][0]
    assert {key: first[key] for key in ("setup", "errors", "note", "members", "verdict")} == {
        "setup": "s", "errors": "e", "note": "n", "members": 6, "verdict": "does not hold",
    }  # fmt: skip
    assert first["readings"][0]["measured"] == pytest.approx(0.99981)
    assert first["readings"][1]["measured"] is None
    assert first["figures"][0]["kind"] == "cosine_maps"


@pytest.mark.parametrize(
    ("mean", "sd", "shown"),
    [
        (0.9998, 9.5e-6, "0.9998 ± 9.5e−6"),
        (0.99999999985, 1.27e-10, "1.0000 ± 1.3e−10"),
        (-0.70923952, 0.0226031, "−0.709 ± 0.023"),
        (0.2184232, 0.0022670, "0.2184 ± 0.0023"),
        (124.58500, 0.30008, "124.6 ± 0.3"),
        (0.0034, 0.0041, "0.0034 ± 0.0041"),
        (2.2984e-5, 2.4741e-6, "2.30e−5 ± 2.5e−6"),
        (0.00012, 0.8, "0.00 ± 0.8"),
        (1234567.0, 4000.0, "1234567 ± 4e3"),
        (0.0, 0.0, "0 ± 0"),
        (2.0, 0.0, "2 ± 0"),
        (18, None, "18"),
        (4.888e-32, None, "4.9e−32"),
        (0.31622, None, "0.3162"),
        (float("nan"), None, "not a number"),
        (float("inf"), None, "inf"),
        (1.0, float("nan"), "1"),
    ],
)
def test_numbers_have_sensible_digits(mean, sd, shown):
    assert mean_and_spread(mean, sd) == shown


@given(
    st.floats(-1e9, 1e9, allow_subnormal=False),
    st.floats(0, 1e6, allow_subnormal=False) | st.none(),
)
def test_what_is_shown_is_what_was_measured(mean, sd):
    shown = mean_and_spread(mean, sd).replace("−", "-").split(" ± ")
    off = abs(float(shown[0]) - mean)
    assert off <= max(0.06 * abs(mean), sd or 0.0)
    assert off <= 0.06 * (sd or 0.0) + 6e-4 * abs(mean) or abs(mean) < 1e-4
    if sd:
        assert float(shown[1]) == pytest.approx(sd, rel=0.06)


def test_a_statement_holds_or_does_not():
    assert BAD.found == "does not hold"
    assert replace(BAD, passed=True).found == "holds"
    html = page_of(claim("a", replace(BAD, passed=True)))
    assert "<td>holds</td>" in html


@pytest.mark.parametrize(
    ("expected", "wanted"),
    [
        ("0 to 1e-09", "0 to 1e−9"),
        ("2 to 2", "2"),
        ("1 ± 0", "1"),
        ("1 ± 0.05", "1 ± 0.05"),
        ("-0.02 to 0.02", "−0.02 to 0.02"),
        ("-0.02 to 0.02 in every member", "−0.02 to 0.02 in every member"),
        ("0 to 0 in every member", "0 in every member"),
        ("1e+06 to 2.5e+10", "1e6 to 2.5e10"),
        ("above 0 with p < .05 (p is 4.8e-06)", "above 0 with p < .05 (p is 4.8e−6)"),
        ("holds", "holds"),
        ("a well-known 1-to-1 map", "a well-known 1-to-1 map"),
    ],
)
def test_expectations_are_tidied(expected, wanted):
    assert replace(GOOD, expected=expected).wanted == wanted


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_a_band_keeps_both_its_ends(low, high):
    low, high = f"{low:.4g}", f"{high:.4g}"
    wanted = replace(GOOD, expected=f"{low} to {high}").wanted.replace("−", "-").split(" to ")
    assert [float(end) for end in wanted] == [float(low), float(high)][: 1 if low == high else 2]


def test_every_text_is_shown_and_none_is_obeyed():
    hostile = " ".join(HOSTILE[:5])
    reading = Reading(name=hostile, expected=hostile, measured=1.0, passed=False)
    bad = Claim(
        id=hostile, title=hostile, claim=hostile, setup=hostile, errors=hostile, note=hostile,
        readings=(reading,), figures=(Prose(title=hostile, paragraphs=(hostile,)),),
    )  # fmt: skip
    group = ClaimGroup(title=hostile, claims=(bad,), sentence=hostile)
    html = Report(title="t", sections=(ClaimOverview(groups=(group,)), group)).to_html()
    assert "alert(1)</script>" not in html
    assert "<img" not in html
    assert html.count("&lt;img src=x onerror=alert(2)&gt;") >= 10
    assert len(re.findall("<script>", html)) == 2  # the page's own


def test_every_link_of_the_overview_has_a_target():
    names = ["002-fig 1", "a=b&c", "雪", '"><b>', "half \ud83d"]
    html = page_of(*(claim(name, GOOD) for name in names))
    overview = html.split('class="claim_overview"')[1].split("</section>")[0]
    links = [unescape(link) for link in re.findall(r'href="#([^"]*)"', overview)]
    assert len(links) == len(names)
    targets = {unescape(target) for target in re.findall(r'<article [^>]*id="([^"]*)"', html)}
    assert set(links) == targets
    assert not any("=" in link or " " in link for link in links)


def test_a_text_that_names_a_claim_leads_there():
    html = page_of(
        claim("fig-1", GOOD),
        claim("fig-1-b", GOOD, setup="As fig-1 <b>, unlike fig-12 and pre-fig-1; see fig-1-b."),
    )
    setup = html.split("Set-up.</b>")[1].split("</p>")[0]
    assert re.findall('<a href="#([^"]*)">([^<]*)</a>', setup) == [("claim-fig-1", "fig-1")]
    assert "&lt;b&gt;" in setup


def test_the_navigation_lists_groups():
    html = page_of(*(claim(f"c{i}", GOOD) for i in range(30)))
    navigation = html.split("<nav")[1].split("</nav>")[0]
    assert navigation.count("<li>") == 2
    assert "30/30" in navigation


def test_failures_come_first():
    html = page_of(claim("a", GOOD), claim("b", BAD))
    overview = html.split('class="claim_overview"')[1]
    assert "<b>1</b> of 2 claims hold" in overview
    assert overview.index('href="#claim-b"') < overview.index('href="#claim-a"')
    assert "Not reproduced" not in page_of(claim("a", GOOD))


def test_ids_must_differ_and_be_there():
    twice = ClaimGroup(title="g", claims=(claim("a"), claim("a")))
    with pytest.raises(ConfigError, match=r"one claim for each id.*received a more than once"):
        Report(title="t", sections=(twice,))
    group = ClaimGroup(title="g", claims=(claim("a"),))
    with pytest.raises(ConfigError, match=r"claims of its own report, received a besides"):
        Report(title="t", sections=(ClaimOverview(groups=(group,)),))


def test_a_claim_holds_no_claims():
    group = ClaimGroup(title="g", claims=())
    with pytest.raises(ConfigError, match=r"received 'g' of the kind claim_group"):
        view_of(group, Drawing(order=()), "f1", group.to_json())


def test_the_help_stands_once_on_a_page():
    html = page_of(claim("a", GOOD, figures=(maps(), maps())), claim("b", GOOD, figures=(maps(),)))
    assert html.count("<summary>How to read a cosine map</summary>") == 1
    assert html.count('href="#how-to-read-a-map"') == 3
    assert 'id="how-to-read-a-map">' in html  # closed
    assert "How to read" not in page_of(claim("a", GOOD))
    alone = ClaimGroup(title="g", claims=(claim("a", GOOD, figures=(maps(), maps())),))
    html = Report(title="t", sections=(alone,)).to_html()
    assert html.count("<summary>How to read a cosine map</summary>") == 1
    html = Report(title="t", sections=(maps(), maps())).to_html()
    assert html.count('id="how-to-read-a-map" open>') == 1
    assert html.count('href="#how-to-read-a-map"') == 1


def curves(count: int) -> TrainingCurves:
    x, y = np.arange(3), np.arange(3.0)
    band = Band(name="SAE", steps=x, mean=y, low=y, high=y, members=1)
    own = tuple(Curve(metric=f"m{i}", label=f"m{i}", bands=(band,)) for i in range(count))
    return TrainingCurves(title="curves", curves=own)


BINS = Bins(name="SAE", edges=np.arange(3.0), counts=np.array([1, 2]), outside=0)


@pytest.mark.parametrize(
    ("figure", "place"),
    [
        (Prose(title="text", paragraphs=("p",)), "beside"),
        (Histogram(title="histogram", series=(BINS,), label="x"), "beside"),
        (curves(2), "beside"),
        (curves(3), "below"),
        (table(2), "beside"),
        (table(9), "below"),
        (maps(4), "beside"),
        (maps(4, features=20), "below"),
    ],
)
def test_wide_figures_stand_below(figure, place):
    group = ClaimGroup(title="g", claims=(claim("a", GOOD, figures=(figure,)),))
    shown = group_view(group, "f1", group.to_json(), {})["claims"][0]
    assert len(shown["beside"]) == (place == "beside")
    assert len(shown["below"]) == (place == "below")


def test_each_claim_has_colours_of_its_own():
    own = [
        claim(f"c{i}", GOOD, figures=(TrainingCurves(title="t", curves=(Curve(
            metric="m", label="m", bands=(replace(curves(1).curves[0].bands[0], name=f"S{i}"),),
        ),)),))
        for i in range(2)
    ]  # fmt: skip
    html = page_of(*own)
    legends = re.findall(r'<ul class="legend">.*?</ul>', html, re.S)
    assert len(legends) == 2
    assert all('stroke="var(--series-1)"' in legend for legend in legends)


def test_a_table_of_readings_ranks_nothing():
    html = Report(title="t", sections=(table(2, ranked=False),)).to_html()
    for word in ("stands out", "One member each", "Trained", 'scope="col">SAE'):
        assert word not in html
    assert "One member each" in Report(title="t", sections=(table(2),)).to_html()
    column = Column(key="m", label="m", direction="higher", definition="")
    cells = [{"m": Cell(mean=m, sd=0.01, n=5)} for m in (0.1, 0.9)]
    rows = tuple(Row(name=str(i), kind="trained", cells=c) for i, c in enumerate(cells))
    rivals = MetricsTable(title="t", columns=(column,), rows=rows)
    assert rivals.verdicts(column) == ["", "best"]
    assert replace(rivals, ranked=False).verdicts(column) == ["", ""]
    assert replace(rivals, ranked=False).to_json()["ranked"] is False
