"""The page of a diagnosis in a real browser: overview, filters, the page of a latent, families."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from latent_assay import baselines
from latent_assay.diagnosis import VERDICTS, Verdict, diagnose
from latent_assay.diagnosis.calibration import truth
from latent_assay.diagnosis.pages import DiagnosedSAE, diagnosis_report, write_page
from latent_assay.worlds import presets
from tests.report.conftest import HOSTILE, NAMES, make_corpus
from tests.report.diagnosed import FAMILY, made_diagnosis, made_saes
from tests.report.visit import Visit, until

pytestmark = pytest.mark.browser

WIDTH = 400
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def saes():
    corpus = make_corpus(np.random.default_rng(0), documents=60, length=128)
    return made_saes(corpus, WIDTH, NAMES)


@pytest.fixture(scope="module")
def page_file(saes, tmp_path_factory) -> Path:
    report = diagnosis_report(saes, title="Diagnosis <script>alert(0)</script>")
    return write_page(report, tmp_path_factory.mktemp("diagnosis"))


@pytest.fixture
def visit(browser, page_file):
    visits = []

    def start(hash_: str = "", file: Path = page_file, **options) -> Visit:
        visits.append(Visit(browser, file, hash_, **options))
        return visits[-1]

    yield start
    for each in visits:
        each.context.close()


def heading(page) -> str:
    return page.inner_text("#latent h3")


def listed(page) -> list[int]:
    return [int(row.get_attribute("data-latent")) for row in page.locator(".row").all()]


def test_quiet_and_offline(visit, page_file):
    found = visit()
    page = found.ready()
    page.mouse.wheel(0, 20_000)
    assert found.complaints == []
    assert found.requests == [page_file.as_uri()]
    assert page.inner_text("h1") == "Diagnosis <script>alert(0)</script>"


def test_overview_counts_what_the_diagnosis_says(visit, saes):
    page = visit().ready()
    cards = page.locator(".card")
    assert cards.count() == len(NAMES)
    for i, one in enumerate(saes):
        card = cards.nth(i)
        counts = one.diagnosis.counts()
        clean = 100 * counts[Verdict.CLEAN] / WIDTH
        assert card.locator(".tally b").inner_text() == f"{clean:.0f}%"
        rows = card.locator(".verdict-lines tbody tr").all()
        shown = {
            row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in rows
        }
        for verdict, n in counts.items():
            if n:
                assert shown[verdict.value.replace("_", " ")][0] == str(n)
        chosen = one.diagnosis.chosen == VERDICTS.index(Verdict.ABSORBED)
        wrong = 100 * (1 - one.diagnosis.probability("absorbed")[chosen].mean())
        assert shown["absorbed"][2] == f"{wrong:.0f}%"
        assert shown["undecided"][2] == "—"
        besides = int((one.diagnosis.found("several_peaks")).sum()) - counts[Verdict.SEVERAL_PEAKS]
        assert shown["several peaks"][3] == f"+{besides}"
    assert page.locator(".advice code").first.inner_text() == "AuxK"


def test_a_verdict_of_the_overview_filters_the_list(visit, saes):
    page = visit().ready()
    page.click(".card >> nth=1 >> .verdict-lines >> text=hedged")
    until(lambda: page.input_value("#verdict") == "hedged")
    assert page.input_value("#sae") == "1"
    n = saes[1].diagnosis.counts()[Verdict.HEDGED]
    assert page.inner_text("#count") == f"{n} of {WIDTH} latents"
    sure = saes[1].diagnosis.probability("hedged")
    assert listed(page)[0] == np.where(saes[1].diagnosis.found("hedged"), sure, 0).argmax()
    assert int(heading(page).split()[1]) % FAMILY == 4


def test_filters_and_sorting(visit, saes):
    page = visit().ready()
    assert listed(page)[:3] == [0, 1, 2]
    page.select_option("#verdict", "several_peaks")
    alone = saes[0].diagnosis.counts()[Verdict.SEVERAL_PEAKS]
    assert page.inner_text("#count").startswith(f"{alone} of")
    page.check("#beside")
    every = int(saes[0].diagnosis.found("several_peaks").sum())
    assert every > alone
    assert page.inner_text("#count").startswith(f"{every} of")
    page.select_option("#verdict", "")
    page.select_option("#sort", "density")
    firings = saes[0].diagnosis.evidence.columns["firings"]
    assert firings[listed(page)[0]] == firings.max()
    page.select_option("#sort", "lost")
    lost = saes[0].diagnosis.evidence.columns["lost"]
    assert lost[listed(page)[0]] == pytest.approx(lost.max(), abs=1e-3)


def test_search_by_token_and_index(visit, saes):
    page = visit().ready()
    page.fill("#query", "lemma")
    text = saes[0].excerpts
    hits = {
        int(latent)
        for latent, place in zip(text.example_latent, text.example_position, strict=True)
        if "lemma" in text.corpus.pieces[text.corpus.ids[place]]
    }
    assert hits
    until(lambda: page.inner_text("#count") == f"{len(hits)} of {WIDTH} latents")
    assert set(listed(page)) <= hits
    page.fill("#query", "#27")
    until(lambda: page.inner_text("#count").startswith("11 of"))
    assert listed(page) == [27, *range(270, 280)]
    assert heading(page) == "Latent 27"
    page.fill("#query", "no such text")
    page.wait_for_selector("text=No latent fits")


def test_page_of_an_absorbed_parent_shows_what_it_rests_on(visit, saes):
    found = visit(f"#sae=0&latent={FAMILY}")
    page = found.ready()
    assert heading(page) == f"Latent {FAMILY}"
    one = saes[0]
    sure = one.diagnosis.probability("absorbed")[FAMILY]
    assert page.inner_text("#latent .tag").startswith("absorbed")
    percent = page.locator("#latent .odds li.decided .number").inner_text()
    assert abs(int(percent[:-1]) - 100 * sure) <= 1
    assert "silent in an estimated" in page.inner_text("#latent .lead >> nth=0")
    assert "Besides: several peaks" in page.inner_text("#latent .lead >> nth=1")
    assert page.locator("#latent .peaks rect").count() > 20
    assert page.locator("#latent .pairs li").count() == 8
    holes = page.locator("#latent .holes li")
    assert holes.count() == 3
    at = np.searchsorted(one.excerpts.hole_parent, FAMILY)
    asked = page.locator("#latent .holes .number").first.inner_text()
    assert asked == f"{100 * float(np.float16(one.excerpts.hole_asked[at])):.0f}%"
    piece = one.excerpts.corpus.pieces[one.excerpts.corpus.ids[one.excerpts.hole_position[at]]]
    assert holes.first.locator("mark.peak").count() == 1
    if piece.strip().isalpha():
        assert holes.first.locator("mark.peak").inner_text() == piece.strip()
    assert found.complaints == []


def test_a_hedge_is_shown_with_and_without_what_it_carries(visit):
    page = visit(f"#sae=0&latent={FAMILY + 4}").ready()
    assert "a direction that no latent stands for" in page.inner_text("#latent .lead >> nth=0")
    places = page.locator("#latent .hedges li")
    assert places.count() == 4
    heads = page.locator("#latent .hedges .hole-head").all_inner_texts()
    assert [text.startswith("It is there") for text in heads] == [True, False]
    page.fill("#query", f"#{FAMILY}")
    until(lambda: heading(page) == f"Latent {FAMILY}")
    assert page.locator("#latent .hedges").count() == 0


def test_links_lead_to_relatives_and_back(visit):
    page = visit(f"#sae=1&latent={FAMILY}").ready()
    page.click(f"#latent .family a[href$='latent={FAMILY + 1}']")
    until(lambda: heading(page) == f"Latent {FAMILY + 1}")
    assert page.url.endswith(f"#sae=1&latent={FAMILY + 1}")
    assert "which stays silent when it fires" in page.inner_text("#latent .lead >> nth=0")
    page.click("#latent .holes .hole-head a")
    until(lambda: heading(page) == f"Latent {FAMILY}")
    page.go_back()
    until(lambda: heading(page) == f"Latent {FAMILY + 1}")


def test_families_are_drawn_and_absorption_stands_out(visit, saes):
    page = visit().ready()
    families = page.locator("#family-list svg")
    assert families.count() == 4
    assert families.first.locator("a").count() == 4
    assert families.first.locator(".edge.absorbs").count() == 3
    page.click("#more-families")
    assert families.count() == 8
    families.first.locator("a >> nth=1").click()
    until(lambda: page.url.split("=")[-1].isdigit())
    latent = int(page.url.split("=")[-1])
    assert latent % FAMILY in (1, 2, 3)
    until(lambda: heading(page) == f"Latent {latent}")


def test_hostile_text_is_shown(visit):
    found = visit()
    page = found.ready()
    for words in ("alert(1)", HOSTILE[5]):
        page.fill("#query", words)
        until(lambda: page.locator(".row").count() < 20)
        assert page.locator(".row").count() > 0
        page.click(".row >> nth=0")
    assert "‹202E›gnirts" in page.inner_text("#latent")
    page.fill("#query", "")
    page.focus("#list")
    for _ in range(WIDTH // 10):
        page.keyboard.press("PageDown")
    assert page.locator("#browser script, #browser img, .card script, .card img").count() == 0
    page.click("#provenance summary >> nth=0")
    assert "made </script> by hand" in page.inner_text("#provenance")
    assert found.complaints == []


@pytest.mark.parametrize("hash_", ["#sae=9&latent=1", "#latent=x", "#sae=0&verdict=odd"])
def test_odd_links_fall_back_to_the_first_latent(visit, hash_):
    found = visit(hash_)
    assert heading(found.ready()) == "Latent 0"
    assert found.complaints == []


def test_link_beyond_the_last_latent_says_so(visit):
    page = visit(f"#sae=0&latent={WIDTH}").ready()
    assert f"There is no latent {WIDTH}" in page.inner_text("#latent")


def test_keyboard(visit):
    page = visit().ready()
    page.focus("#list")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert heading(page) == "Latent 1"
    active = page.get_attribute("#list", "aria-activedescendant")
    assert page.get_attribute(f"#{active}", "aria-selected") == "true"
    page.keyboard.press("End")
    assert heading(page) == f"Latent {WIDTH - 1}"
    page.fill("#query", f"#{FAMILY}")
    page.focus("#latent .family a >> nth=1")
    page.keyboard.press("Enter")
    until(lambda: heading(page) == f"Latent {FAMILY + 1}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_windows_do_not_scroll_sideways(visit, scheme):
    page = visit(f"#sae=0&latent={FAMILY}", viewport=PHONE, color_scheme=scheme).ready()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_fifty_thousand_latents_stay_fluid(visit, saes, tmp_path):
    width = 50_000
    corpus = saes[0].excerpts.corpus
    (big,) = made_saes(corpus, width, ("large",))
    file = write_page(diagnosis_report([big]), tmp_path)
    found = visit(file=file)
    found.page.wait_for_selector("#browser[data-ready]", timeout=60_000)
    page = found.page
    assert page.locator(".row").count() < 40
    page.evaluate("document.getElementById('list').scrollTop = 1e9")
    page.wait_for_selector(f"#row-{width - 1}")
    assert page.locator(".row").count() < 40
    page.select_option("#verdict", "absorbed")
    n = big.diagnosis.counts()[Verdict.ABSORBED]
    assert page.inner_text("#count") == f"{n:,} of 50,000 latents"
    page.click(".row >> nth=2")
    assert page.locator("#latent .holes li").count() == 3
    page.fill("#query", "#49976")
    until(lambda: page.inner_text("#count").startswith("1 of"))
    assert page.locator("#browser *").count() < 5_000
    assert found.complaints == []


def test_a_world_shows_the_truth_beside_the_verdict(visit, tmp_path):
    world = presets.absorption()
    generator = torch.Generator().manual_seed(0)
    sae = baselines.oracle(world)
    found = diagnose(sae, [world.sample(4_000, generator).x])
    known = truth(sae, world, world.sample(20_000, generator))
    one = DiagnosedSAE(name="oracle", diagnosis=found, truth=known)
    visited = visit(file=write_page(diagnosis_report([one]), tmp_path))
    page = visited.ready()
    assert "Of 4 verdicts: 4 true" in page.inner_text(".against")
    assert page.locator("#latent .odds .truth").first.inner_text() == "true"
    assert set(page.locator("#latent .odds .truth").all_inner_texts()) <= {
        "true",
        "no",
        "grey zone",
    }
    page.fill("#query", "feature 2")
    until(lambda: page.locator(".row").count() == 1)
    own = known.composition.own.tolist()
    assert listed(page) == [own.index(2)]
    assert "feature 2" in page.inner_text("#latent .numbers")
    assert visited.complaints == []


def test_weights_alone_make_a_page_too(visit, tmp_path):
    found = diagnose(baselines.oracle(presets.absorption()))
    file = write_page(diagnosis_report([DiagnosedSAE(name="w", diagnosis=found)]), tmp_path)
    visited = visit(file=file)
    page = visited.ready()
    assert "weights alone" in page.inner_text(".card")
    assert heading(page) == "Latent 0"
    assert page.locator("#latent .peaks, #latent .contexts").count() == 0
    assert visited.complaints == []


def test_without_text_the_rest_is_there(visit, tmp_path):
    one = DiagnosedSAE(name="plain", diagnosis=made_diagnosis(64))
    visited = visit("#sae=0&latent=8", file=write_page(diagnosis_report([one]), tmp_path))
    page = visited.ready()
    assert page.locator("#latent .family a").count() == 4
    assert page.locator("#latent .peaks").count() == 1
    assert visited.complaints == []


def test_one_page_shows_one_text(saes):
    from latent_assay.errors import DataError

    other = make_corpus(np.random.default_rng(5), documents=3, length=40)
    excerpts = replace(saes[1].excerpts, corpus=other)
    with pytest.raises(DataError, match="different texts"):
        diagnosis_report([saes[0], replace(saes[1], excerpts=excerpts)])
