"""The page in a real browser: nothing runs, nothing loads, everything works."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from latent_assay.report import Corpus, LatentBrowser, LatentPages, Report, latent_contexts
from tests.report.conftest import HOSTILE, NAMES
from tests.report.visit import Visit, until

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def page_file(report, tmp_path_factory) -> Path:
    return report.write(tmp_path_factory.mktemp("report"))


@pytest.fixture
def visit(browser, page_file):
    visits = []

    def start(hash_: str = "", **options) -> Visit:
        visits.append(Visit(browser, page_file, hash_, **options))
        return visits[-1]

    yield start
    for each in visits:
        each.context.close()


def heading(page) -> str:
    return page.inner_text("#latent h3")


def test_quiet_and_offline(visit, page_file):
    found = visit()
    page = found.ready()
    page.mouse.wheel(0, 20_000)
    assert found.complaints == []
    assert found.requests == [page_file.as_uri()]
    title = page.inner_text("h1")
    assert title == "Do matryoshka levels cure absorption? <script>alert(0)</script>"
    assert page.locator("body > main img, body > main iframe, body > main object").count() == 0


def test_hostile_text_is_shown(visit):
    found = visit()
    page = found.ready()
    page.fill("#query", "alert(1)")
    until(lambda: page.locator(".row").count() < 10)
    assert page.locator(".row").count() > 0
    page.click(".row >> nth=0")
    assert "</script><script>alert(1)</script>" in page.inner_text("#latent mark.peak >> nth=0")
    # every latent of both SAEs, drawn once
    for name in NAMES:
        page.select_option("#sae", label=name)
        page.focus("#list")
        page.keyboard.press("Home")
        for _ in range(60):
            page.keyboard.press("PageDown")
    assert page.locator("#browser script, #browser img").count() == 0
    assert found.complaints == []


def test_text_that_would_turn_around_is_shown_by_its_code(visit):
    page = visit().ready()
    page.fill("#query", HOSTILE[5])
    until(lambda: page.locator(".row").count() < 15)
    page.click(".row >> nth=0")
    assert "‹202E›gnirts" in page.inner_text("#latent .contexts")


def test_policy_stops_what_escaping_might_miss(visit):
    found = visit()
    page = found.ready()
    page.evaluate(
        """() => {
            const hole = document.createElement("div");
            hole.innerHTML = "<img src='https://example.invalid/x.png' onerror='window.hit = 1'>"
                + "<p style='color: red' onclick='window.hit = 1'>x</p>";
            document.body.append(hole);
            hole.querySelector("p").click();
            const script = document.createElement("script");
            script.textContent = "window.hit = 1";
            document.body.append(script);
            return fetch("https://example.invalid/").catch(() => 0);
        }"""
    )
    assert page.evaluate("window.hit") is None
    assert len(found.complaints) >= 3
    assert all("Content Security Policy" in complaint for complaint in found.complaints)
    until(lambda: set(found.requests[1:]) == set(found.refused))
    assert all("csp" in reason.lower() for reason in found.refused.values())


def test_search_by_text_and_by_index(visit, report):
    page = visit().ready()
    page.fill("#query", "second lemma")
    until(lambda: page.locator(".row").count() < 20)
    assert heading(page) == f"Latent {page.locator('.row').first.get_attribute('data-latent')}"
    tops = page.locator(".row .top").all_inner_texts()
    assert set(tops) == {"second", "lemma"}
    corpus, pages = report.sections[-1].corpus, report.sections[-1].saes[0]
    expected = sum(
        any(corpus.pieces[corpus.ids[p]] in (" second", " lemma") for p in row if p >= 0)
        for row in pages.contexts.peaks.tolist()
    )
    assert page.inner_text("#count").startswith(f"{expected} of 300 latents")

    page.fill("#query", "#27")
    until(lambda: page.locator(".row").count() == 11)
    indices = page.locator(".row .index").all_inner_texts()
    assert indices == ["#27", *(f"#{i}" for i in range(270, 280))]
    assert heading(page) == "Latent 27"

    page.fill("#query", "no such text")
    page.wait_for_selector("text=No latent fits")


def test_sorting_and_filters(visit, report):
    pages = report.sections[-1].saes[0]
    page = visit().ready()
    page.select_option("#sort", "density")
    first = int(page.locator(".row").first.get_attribute("data-latent"))
    assert first == pages.contexts.density.argmax()
    page.select_option("#sort", "cosine-low")
    alive = [i for i, d in enumerate(pages.contexts.density) if d > 0]
    first = int(page.locator(".row").first.get_attribute("data-latent"))
    assert first == min(alive, key=lambda i: pages.cosine[i])
    page.select_option("#label", "absorbed")
    assert page.inner_text("#count").startswith(f"{pages.labels.count('absorbed')} of 300")
    page.uncheck("#dead")
    page.select_option("#label", "dead")
    assert page.inner_text("#count").startswith(f"{pages.labels.count('dead')} of 300")
    page.click(".row >> nth=0")
    assert "It never fired" in page.inner_text("#latent")


def test_deep_link_opens_a_latent(visit, report):
    found = visit("#sae=1&latent=7")
    page = found.ready()
    assert heading(page) == "Latent 7"
    assert page.input_value("#sae") == "1"
    assert page.evaluate("document.querySelector('#browser').getBoundingClientRect().top") < 200
    pages = report.sections[-1].saes[1]
    numbers = page.locator("#latent .contexts .number").all_inner_texts()
    assert len(numbers) == (pages.contexts.peaks[7] >= 0).sum()
    assert float(numbers[0]) == pytest.approx(float(pages.contexts.maximum[7]), rel=1e-2)
    assert page.locator("#latent mark.peak").count() == len(numbers)
    assert found.complaints == []


@pytest.mark.parametrize("hash_", ["#sae=9&latent=1", "#latent=x", "#nonsense", "#sae=0&latent="])
def test_odd_links_fall_back_to_the_first_latent(visit, hash_):
    found = visit(hash_)
    assert heading(found.ready()) == "Latent 1"
    assert found.complaints == []


def test_link_beyond_the_last_latent_says_so(visit):
    page = visit("#sae=0&latent=300").ready()
    assert "There is no latent 300" in page.inner_text("#latent")


def test_negative_activations_have_a_colour_of_their_own(browser, tmp_path):
    z = torch.tensor([[1.0], [-2.0], [0.0]])
    found = latent_contexts(lambda x: x, lambda: [(z, torch.arange(3))], corpus_length=3)
    pages = LatentPages.of("signed", torch.ones(1, 2), torch.ones(1, 2), found)
    corpus = Corpus.of_documents([["up", "down", "off"]])
    signed = Report(title="t", sections=(LatentBrowser(corpus=corpus, saes=(pages,)),))
    visit = Visit(browser, signed.write(tmp_path))
    page = visit.ready()
    assert page.locator("#latent mark").all_inner_texts() == ["up", "down"]
    assert page.inner_text("#latent mark.negative") == "down"
    assert page.inner_text("#latent .contexts .number") == "−2"
    assert not page.locator("#sae-field").is_visible()
    assert visit.complaints == []
    visit.context.close()


def test_keyboard_and_neighbours(visit, report):
    page = visit().ready()
    page.focus("#list")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert heading(page) == "Latent 2"
    assert page.url.endswith("#sae=0&latent=2")
    active = page.get_attribute("#list", "aria-activedescendant")
    assert page.get_attribute(f"#{active}", "aria-selected") == "true"
    page.keyboard.press("End")
    assert heading(page) == "Latent 299"
    page.click(".near a >> nth=0")
    nearest = report.sections[-1].saes[0].nearest[299, 0]
    page.wait_for_function(f"location.hash.endsWith('latent={nearest}')")
    page.wait_for_timeout(50)  # the hash changes first, what is shown follows it
    assert heading(page) == f"Latent {nearest}"
    page.go_back()
    until(lambda: heading(page) == "Latent 299")


def test_only_the_rows_in_sight_exist(visit):
    page = visit().ready()
    assert page.locator(".row").count() < 40
    page.evaluate("document.getElementById('list').scrollTop = 1e6")
    page.wait_for_selector("#row-299")
    assert page.locator(".row").count() < 40


def paint(page) -> tuple[str, str, str]:
    return tuple(
        page.evaluate(
            """() => {
                const map = document.querySelector("figure svg path[fill='var(--panel)']");
                const body = getComputedStyle(document.body);
                return [body.backgroundColor, body.color, getComputedStyle(map).fill];
            }"""
        )
    )


def test_dark_mode_changes_page_and_figures(visit):
    light = paint(visit(color_scheme="light").ready())
    found = visit(color_scheme="dark")
    dark = paint(found.ready())
    assert all(a != b for a, b in zip(light, dark, strict=True))
    found.page.click("#theme")
    assert paint(found.page) == light
    found.page.reload()
    assert paint(found.ready()) == light, "the choice is not remembered"
    found.page.click("#theme")
    assert paint(found.page) == dark


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_overflows(visit, width):
    page = visit(viewport={"width": width, "height": 844}, is_mobile=width < 700).ready()
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        """() => [...document.querySelectorAll("main *")]
            .filter((node) => !node.closest(".scroll, .bars, .row, .maps"))
            .filter((node) => node.getBoundingClientRect().right > innerWidth + 1)
            .map((node) => node.outerHTML.slice(0, 80))"""
    )
    assert wide == []


def test_everything_but_the_browser_works_without_script(visit):
    found = visit(java_script_enabled=False)
    page = found.page
    assert page.locator("noscript p").is_visible()
    assert page.locator("table").is_visible()
    assert page.locator(".curves .linear svg").first.is_visible()
    assert not page.locator(".curves .log svg").first.is_visible()
    page.click("text=logarithmic")
    assert page.locator(".curves .log svg").first.is_visible()
    assert not page.locator(".curves .linear svg").first.is_visible()
    page.click("text=What these numbers mean")
    assert page.locator("text=Predicting the mean scores 0").is_visible()
    assert not page.locator("#theme").is_visible()


def test_column_headings_lead_to_their_definitions(visit):
    page = visit().ready()
    definition = page.locator("text=Mean number of latents that fire on an activation")
    assert not definition.is_visible()
    page.click("thead >> text=L0")
    definition.wait_for(state="visible")


def test_phone_puts_the_latent_below_the_list(visit):
    page = visit(viewport=PHONE, is_mobile=True, has_touch=True).ready()
    page.tap(".row >> nth=2")
    top = "document.querySelector('#latent').getBoundingClientRect().top"
    until(lambda: page.evaluate(top) < 400)
    assert heading(page) == "Latent 3"


def test_print_shows_the_definitions_and_hides_the_controls(visit):
    page = visit().ready()
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator(".controls").is_visible()
    assert not page.locator(".bar").is_visible()
    assert page.locator("#latent").is_visible()
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("text=Predicting the mean scores 0").is_visible()


def test_headings_do_not_skip_a_level(visit):
    page = visit().ready()
    levels = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3, h4')].map((node) => Number(node.tagName[1]))"
    )
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
