"""The page of claims in a real browser: figures beside numbers, and every link lands."""

from itertools import pairwise

import numpy as np
import pytest

from latent_assay.report import (
    Cell,
    Claim,
    ClaimGroup,
    ClaimOverview,
    Column,
    CosineMap,
    CosineMaps,
    MetricsTable,
    Reading,
    Report,
    Row,
)
from tests.report.conftest import HOSTILE
from tests.report.visit import Visit, until

pytestmark = pytest.mark.browser

WIDE = {"width": 1400, "height": 900}
PHONE = {"width": 400, "height": 844}


def readings(*passed: bool) -> tuple[Reading, ...]:
    return tuple(
        Reading(
            name=f"cosine of latent {i} with the feature that it should have found",
            expected="0.95 to 1 in every member",
            measured=0.98 if good else 0.41,
            sd=0.0123,
            passed=good,
        )
        for i, good in enumerate(passed)
    )


def wide_table() -> MetricsTable:
    keys = [f"a long heading {i}" for i in range(9)]
    return MetricsTable(
        title="A wide table",
        columns=tuple(Column(key=k, label=k, direction="none", definition=k) for k in keys),
        rows=(Row(name="row", kind="trained", cells={k: Cell(mean=0.5) for k in keys}),),
        ranked=False,
    )


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    maps = CosineMaps(title="Maps", maps=(CosineMap(name="SAE", decoder=np.eye(4)),))
    text = "A sentence that says how it was tested. " * 8
    groups = (
        ClaimGroup(
            title="One paper",
            claims=(
                Claim(id="1-a", title="Holds", claim=text, setup=text, members=6,
                      readings=readings(True, True), figures=(maps, wide_table())),
                Claim(id="1-b", title="Does not hold", claim=text, setup="As 1-a.",
                      note=text, readings=readings(True, False), figures=(maps,)),
            ),
        ),
        ClaimGroup(
            title="Another paper with a title that is longer than a phone is wide",
            claims=(
                Claim(id=f"2 {HOSTILE[1]}", title=HOSTILE[0], claim=HOSTILE[2], errors=text,
                      readings=readings(True)),
                Claim(id="2-x", title="Many checks", claim="c", note="Short.",
                      readings=readings(*[True] * 12)),
                *(Claim(id=f"2-{i}", title=f"Claim {i}", claim=text, readings=readings(True))
                  for i in range(12)),
            ),
        ),
    )  # fmt: skip
    report = Report(title="Claims", sections=(ClaimOverview(groups=groups), *groups))
    return report.write(tmp_path_factory.mktemp("claims"))


@pytest.fixture
def visit(browser, page_file):
    visits = []

    def start(**options) -> Visit:
        visits.append(Visit(browser, page_file, **{"viewport": WIDE, **options}))
        return visits[-1]

    yield start
    for each in visits:
        assert each.complaints == []
        assert each.requests == [page_file.as_uri()]
        each.context.close()


def box(page, selector: str) -> dict[str, float]:
    found = page.locator(selector).first.bounding_box()
    return found | {"right": found["x"] + found["width"], "bottom": found["y"] + found["height"]}


def test_figures_stand_beside_the_numbers(visit):
    page = visit().page
    for claim in ("#claim-1-a", "#claim-1-b"):
        numbers, figures = box(page, f"{claim} .checks"), box(page, f"{claim} .beside")
        words = box(page, f"{claim} .words")
        assert figures["x"] >= numbers["right"]
        assert figures["y"] == pytest.approx(words["y"], abs=2)
    below = box(page, "#claim-1-a .below")
    assert below["y"] >= box(page, "#claim-1-a .words")["bottom"]
    assert below["width"] == pytest.approx(box(page, "#claim-1-a")["width"], abs=2)
    # a note is as high as its text, however many checks stand beside it
    lines = page.evaluate("getComputedStyle(document.querySelector('#claim-2-x .note')).lineHeight")
    assert box(page, "#claim-2-x .note")["height"] < 3 * float(lines.removesuffix("px"))
    # without a figure the checks stand beside the text
    assert box(page, "#claim-2-1 .checks")["x"] >= box(page, "#claim-2-1 .told")["right"]


def test_a_phone_has_one_column(visit):
    page = visit(viewport=PHONE, is_mobile=True, has_touch=True).page
    parts = [box(page, f"#claim-1-a .{name}") for name in ("told", "checks", "beside", "below")]
    for above, under in pairwise(parts):
        assert under["y"] >= above["bottom"] - 1
        assert under["x"] == pytest.approx(above["x"], abs=2)


@pytest.mark.parametrize("width", [320, 400, 900, 1151, 1152, 1400, 2200])
def test_nothing_overflows(visit, width):
    page = visit(viewport={"width": width, "height": 844}, is_mobile=width < 700).page
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        """() => [...document.querySelectorAll("main *")]
            .filter((node) => !node.closest(".scroll"))
            .filter((node) => node.getBoundingClientRect().right > innerWidth + 1)
            .map((node) => node.outerHTML.slice(0, 80))"""
    )
    assert wide == []


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_every_link_of_the_overview_lands_on_its_claim(visit, viewport):
    page = visit(viewport=viewport, reduced_motion="reduce").page
    links = page.locator(".claim_overview .claim-list a")
    assert links.count() == 1 + 16
    for i in range(links.count()):
        title = links.nth(i).locator(".name").inner_text()
        links.nth(i).click()
        target = page.locator(".claim:target")
        assert target.locator("h3").inner_text() == title
        top = "document.querySelector('.claim:target h3').getBoundingClientRect().top"
        until(lambda top=top: 0 <= page.evaluate(top) < viewport["height"] * 0.9)


def test_the_overview_says_at_once_what_failed(visit):
    page = visit().page
    assert page.inner_text(".tally").startswith("15 of 16 claims hold")
    failed = box(page, ".failures a")
    assert failed["bottom"] < WIDE["height"]
    assert page.inner_text(".failures .name") == "Does not hold"


def test_a_failure_does_not_need_colour(visit):
    page = visit(forced_colors="active").page
    assert page.inner_text("#claim-1-b .verdict-line").startswith("✗ does not hold")
    assert page.inner_text("#claim-1-b tr.failed .verdict") == "✗"
    assert page.get_attribute("#claim-1-b tr.failed .verdict", "aria-label") == "does not hold"
    weights = page.evaluate(
        """() => ["tr.failed th", "tr:not(.failed) th[scope=row]"]
            .map((selector) => document.querySelector("#claim-1-b " + selector))
            .map((node) => Number(getComputedStyle(node).fontWeight))"""
    )
    assert weights[0] > weights[1]


def test_the_keyboard_reaches_a_claim_and_the_help(visit):
    page = visit(reduced_motion="reduce").page
    page.focus(".failures a")
    page.keyboard.press("Enter")
    until(lambda: page.url.endswith("#claim-1-b"))
    page.focus("#claim-1-b .setup a")
    page.keyboard.press("Enter")
    until(lambda: page.url.endswith("#claim-1-a"))
    help_text = page.locator("text=reads one feature and writes")
    assert not help_text.is_visible()
    page.focus("#claim-1-a .scale a")
    page.keyboard.press("Enter")
    help_text.wait_for(state="visible")


def test_the_navigation_lists_sources_and_marks_the_one_being_read(visit):
    page = visit(reduced_motion="reduce").page
    assert page.locator(".bar nav a").count() == 3
    page.evaluate("document.querySelector('#claim-2-5').scrollIntoView()")
    until(lambda: page.inner_text(".bar nav a[aria-current]").startswith("Another paper"))


def test_a_phone_shows_the_name_of_the_source_being_read(visit):
    page = visit(viewport=PHONE, is_mobile=True, reduced_motion="reduce").page
    page.evaluate("document.querySelector('#claim-2-5').scrollIntoView()")
    until(lambda: page.inner_text(".bar nav a[aria-current]").startswith("Another paper"))
    until(lambda: box(page, ".bar nav a[aria-current]")["x"] < PHONE["width"] - 100)


def test_it_prints_in_full(visit):
    found = visit()
    page = found.page
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("text=reads one feature and writes").is_visible()
    for selector in (".tally", "#claim-1-b .note", "#claim-1-b .beside svg"):
        assert page.locator(selector).first.is_visible()
    assert not page.locator(".bar").is_visible()
    assert page.pdf(format="A4")[:4] == b"%PDF"


def test_headings_do_not_skip_a_level(visit):
    levels = visit().page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3, h4')].map((node) => Number(node.tagName[1]))"
    )
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_both_themes(visit):
    painted = [
        visit(color_scheme=scheme).page.evaluate(
            "getComputedStyle(document.querySelector('tr.failed td')).backgroundColor"
        )
        for scheme in ("light", "dark")
    ]
    assert painted[0] != painted[1]
