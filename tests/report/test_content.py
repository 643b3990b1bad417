"""The JSON is strict and complete; the table ranks only beyond the noise."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import ttest_ind

from latent_assay.errors import ConfigError, DataError, FormatError, ShapeError
from latent_assay.report import (
    Cell,
    Column,
    ContextConfig,
    Corpus,
    CosineMap,
    CosineMaps,
    Histogram,
    LatentBrowser,
    LatentContexts,
    LatentPages,
    MetricsTable,
    Prose,
    Report,
    Row,
    TrainingCurves,
    unpack,
)
from latent_assay.report.strict_json import pack, plain, script_json

HIGHER = Column(key="m", label="m", direction="higher", definition="")
LOWER = replace(HIGHER, direction="lower")


def verdicts(column: Column, *rows: tuple[str, Cell]) -> list[str]:
    table = MetricsTable(
        title="t",
        columns=(column,),
        rows=tuple(
            Row(name=str(i), kind=kind, cells={"m": cell}) for i, (kind, cell) in enumerate(rows)
        ),
    )
    return list(table.verdicts(column))


def refuse_constants(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def test_cell_over_members():
    cell = Cell.over([0.1, 0.4, float("nan"), 0.7])
    assert cell.n == 3
    assert cell.mean == pytest.approx(0.4)
    assert cell.sd == pytest.approx(np.std([0.1, 0.4, 0.7], ddof=1))
    assert Cell.over([2.0]) == Cell(mean=2.0, sd=None, n=1)
    assert not Cell.over([]).known


@pytest.mark.parametrize("seed", range(20))
def test_best_agrees_with_welch(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0.3, 0.1, 4), rng.normal(0.0, 0.2, 6)
    found = verdicts(HIGHER, ("trained", Cell.over(a)), ("trained", Cell.over(b)))
    significant = ttest_ind(a, b, equal_var=False).pvalue < 0.05
    winner = int(b.mean() > a.mean())
    assert found[winner] == ("best" if significant else "")
    assert found[1 - winner] == ""


def test_more_rivals_need_more_evidence():
    top, rival = Cell(mean=1.0, sd=0.1, n=5), Cell(mean=0.845, sd=0.1, n=5)
    assert verdicts(HIGHER, ("trained", top), ("trained", rival))[0] == "best"
    many = [("trained", rival)] * 10
    assert verdicts(HIGHER, ("trained", top), *many)[0] == ""


def test_lower_is_better_where_it_is():
    low, high = Cell(mean=0.1, sd=0.01, n=5), Cell(mean=0.5, sd=0.01, n=5)
    assert verdicts(LOWER, ("trained", high), ("trained", low)) == ["", "best"]
    described = replace(HIGHER, direction="none")
    assert verdicts(described, ("trained", high), ("trained", low)) == ["", ""]


def test_one_member_is_never_ranked():
    alone = Cell(mean=0.9, sd=None, n=1)
    known = Cell(mean=0.1, sd=0.01, n=5)
    assert verdicts(HIGHER, ("trained", alone), ("trained", known)) == ["", ""]
    # but it may still be seen to fall short of a baseline
    assert verdicts(HIGHER, ("trained", known), ("baseline", alone))[0] == (
        "no better than a baseline"
    )


def test_a_baseline_can_deny_the_prize():
    best = Cell(mean=0.8, sd=0.01, n=5)
    worse = Cell(mean=0.5, sd=0.01, n=5)
    pca = Cell(mean=0.81, sd=None, n=1)
    found = verdicts(HIGHER, ("trained", best), ("trained", worse), ("baseline", pca))
    assert found == ["no better than a baseline", "no better than a baseline", ""]


def test_a_noisy_baseline_does_not_hide_a_clear_lead():
    good = Cell(mean=0.01, sd=0.001, n=6)
    noisy = Cell(mean=0.82, sd=0.68, n=3)  # too few seeds for significance
    near = Cell(mean=0.3, sd=0.4, n=3)
    assert verdicts(LOWER, ("trained", good), ("baseline", noisy)) == ["", ""]
    found = verdicts(LOWER, ("trained", good), ("baseline", near))
    assert found == ["no better than a baseline", ""]


def test_the_oracle_is_no_rival():
    best, worse = Cell(mean=0.8, sd=0.01, n=5), Cell(mean=0.5, sd=0.01, n=5)
    truth = Cell(mean=1.0, sd=0.0, n=5)
    found = verdicts(HIGHER, ("trained", best), ("trained", worse), ("oracle", truth))
    assert found == ["best", "", ""]


def test_missing_values_are_passed_over():
    missing = Cell(mean=float("nan"), sd=None, n=0)
    assert verdicts(HIGHER, ("trained", missing), ("baseline", Cell(mean=None))) == ["", ""]


def test_table_refuses_cells_without_a_column():
    with pytest.raises(ConfigError, match=r"rows hold \['x'\] besides the columns \['m'\]"):
        MetricsTable(
            title="t",
            columns=(HIGHER,),
            rows=(Row(name="a", kind="trained", cells={"x": Cell(mean=1.0)}),),
        )


def test_json_is_strict_and_keeps_its_shape(report):
    content = report.to_json()
    text = json.dumps(content, allow_nan=False)
    assert json.loads(text, parse_constant=refuse_constants) == content
    assert content["format"] == "latent-assay-report"
    assert content["version"] == 1
    kinds = [section["kind"] for section in content["sections"]]
    assert kinds == [section.kind for section in report.sections]
    assert all(section["title"] for section in content["sections"])
    table = content["sections"][2]
    cell = table["rows"][0]["cells"]["mcc"]
    assert set(cell) == {"mean", "sd", "n", "verdict"}
    assert cell["verdict"] == "best"
    assert table["rows"][0]["cells"]["l0"]["verdict"] == ""
    tied = content["sections"][5]["maps"][1]
    assert tied["encoder"] is None
    assert np.shape(tied["decoder"]) == (6, 6)


def test_json_holds_every_context(report):
    browser = report.sections[-1]
    content = report.to_json()["sections"][-1]
    ids = unpack(content["corpus"]["ids"])
    np.testing.assert_array_equal(ids, browser.corpus.ids)
    for pages, found in zip(browser.saes, content["saes"], strict=True):
        values = unpack(found["activations"])
        np.testing.assert_array_equal(values, pages.contexts.activations[:, : values.shape[1]])
        peaks = found["peaks"][5]
        assert peaks == [p for p in pages.contexts.peaks[5].tolist() if p >= 0]
        shown = content["corpus"]["pieces"][ids[peaks[0]]]
        assert shown == plain(browser.corpus.pieces[browser.corpus.ids[peaks[0]]])
        assert values[5, 0, found["before"]] == 126


def test_plain_turns_what_json_lacks_into_null():
    given = {"a": [np.float32("nan"), np.inf], "b": np.array([[1.5, np.nan]]), "c": np.int64(3)}
    assert plain(given) == {"a": [None, None], "b": [[1.5, None]], "c": 3}
    assert plain("half \ud83d") == "half \ufffd"


@pytest.mark.parametrize("dtype", ["int8", "uint16", "uint32", "float32"])
def test_pack_round_trip(dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    back = unpack(json.loads(json.dumps(pack(array))))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"dtype": "int8", "shape": [2], "zlib_base64": "!!"},
        {"dtype": "object", "shape": [1], "zlib_base64": pack(np.arange(3))["zlib_base64"]},
        {**pack(np.arange(3)), "shape": [4]},
    ],
)
def test_broken_packed_array_is_refused(broken):
    with pytest.raises(FormatError, match="cannot be read"):
        unpack(broken)


def test_script_json_cannot_end_its_element():
    text = "</script><!--<script>&\u2028\u2029"
    escaped = script_json([text])
    assert not set("<>&\u2028\u2029") & set(escaped)
    assert json.loads(escaped) == [text]


def test_curves_from_histories():
    recorded = SimpleNamespace(steps=np.arange(2), members=2, values={"loss": np.ones((2, 2))})
    section = TrainingCurves.of({"a": recorded}, metrics={"loss": "what is minimised"})
    assert section.curves[0].bands[0].members == 2
    with pytest.raises(DataError, match=r"recorded \(loss\), received L0"):
        TrainingCurves.of({"a": recorded}, metrics={"L0": ""})


def test_histogram_of_densities_counts_the_dead():
    section = Histogram.of_densities({"a": np.array([0.0, 0.5, 0.01])})
    assert section.to_json()["series"][0]["outside"] == 1


def test_maps_keep_the_latents_names_when_arranged():
    decoder = np.array([[0.1, 0.9], [0.8, 0.0]])
    arranged = CosineMap(name="a", decoder=decoder, encoder=-decoder).arranged()
    assert arranged.latents == ("1", "0")
    np.testing.assert_array_equal(arranged.decoder, decoder[[1, 0]])
    np.testing.assert_array_equal(arranged.encoder, -decoder[[1, 0]])


def test_maps_of_different_worlds_are_refused():
    maps = (CosineMap(name="a", decoder=np.eye(2)), CosineMap(name="b", decoder=np.eye(3)))
    with pytest.raises(ShapeError, match=r"\{'a': 2, 'b': 3\}"):
        CosineMaps(title="t", maps=maps)
    with pytest.raises(ShapeError, match=r"encoder has \[3, 3\] and the decoder \[2, 2\]"):
        CosineMap(name="a", decoder=np.eye(2), encoder=np.eye(3))


def test_corpus_keeps_only_pieces_that_occur():
    corpus = Corpus.of_ids(np.array([5, 1, 5, 3]), list("abcdef"), np.array([0, 2]))
    assert corpus.pieces == ("b", "d", "f")
    assert [corpus.pieces[i] for i in corpus.ids] == ["f", "b", "f", "d"]
    documents = Corpus.of_documents([["a", "b"], [], ["b", "c"]])
    np.testing.assert_array_equal(documents.documents, [0, 2])


def test_corpus_refuses_ids_without_text():
    with pytest.raises(DataError, match="vocabulary of 2 tokens, received ids from 1 to 7"):
        Corpus.of_ids(np.array([1, 7]), ["a", "b"], np.array([0]))
    with pytest.raises(DataError, match="one of the corpus's 1 pieces"):
        Corpus(pieces=("a",), ids=np.array([0, 1]), documents=np.array([0]))


def test_pages_show_neighbours_and_agreement():
    decoder = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    decoder[7] = decoder[2] * 5
    decoder[3] = 0
    pages = LatentPages.of("a", decoder, decoder, blank_contexts(10), neighbours=20)
    assert pages.nearest.shape == pages.nearest_cosine.shape == (10, 9)
    assert pages.nearest[2, 0] == 7
    assert pages.nearest_cosine[2, 0] == pytest.approx(1.0, abs=1e-6)
    assert pages.cosine[3] == 0
    assert pages.cosine[2] == pytest.approx(1.0)
    alone = LatentPages.of("b", decoder[:1], decoder[:1], blank_contexts(1))
    assert alone.nearest.shape == (1, 0)


def blank_contexts(width: int, contexts: int = 1, rows: int = 10) -> LatentContexts:
    config = ContextConfig(contexts=contexts)
    return LatentContexts(
        config=config,
        rows=rows,
        density=np.zeros(width, dtype=np.float32),
        maximum=np.zeros(width, dtype=np.float32),
        histogram=np.zeros((width, config.bins), dtype=np.int64),
        peaks=np.full((width, contexts), -1, dtype=np.int64),
        activations=np.full((width, contexts, config.window), -128, dtype=np.int8),
    )


def test_pages_must_describe_the_same_latents():
    weights = torch.eye(3)
    with pytest.raises(ShapeError, match=r"describe 5 latents, but received \{'cosine': 3"):
        LatentPages.of("a", weights, weights, blank_contexts(5))
    with pytest.raises(ShapeError, match=r"\{'labels': 1\}"):
        LatentPages.of("a", weights, weights, blank_contexts(3), labels=["dead"])


def test_browser_needs_the_corpus_of_its_contexts():
    corpus = Corpus.of_documents([["a"]])
    found = blank_contexts(3)
    found.peaks[0, 0] = 4
    pages = LatentPages.of("a", torch.eye(3), torch.eye(3), found)
    with pytest.raises(DataError, match="reach position 4, but the corpus has 1 tokens"):
        LatentBrowser(corpus=corpus, saes=(pages,))
    with pytest.raises(ConfigError, match="at least one SAE"):
        LatentBrowser(corpus=corpus, saes=())


def test_a_report_holds_one_browser():
    corpus = Corpus.of_documents([["a"]])
    pages = LatentPages.of("a", torch.eye(3), torch.eye(3), blank_contexts(3))
    browser = LatentBrowser(corpus=corpus, saes=(pages,))
    with pytest.raises(ConfigError, match=r"holds one browser of latents.*received 2"):
        Report(title="t", sections=(browser, browser))


def test_write_is_whole_and_repeatable(report, tmp_path):
    path = report.write(tmp_path / "new" / "folder")
    assert path.name == "report.html"
    assert sorted(p.name for p in path.parent.iterdir()) == ["report.html", "report.json"]
    assert json.loads((path.parent / "report.json").read_text()) == report.to_json()
    assert path.read_text(encoding="utf-8") == report.to_html()


def test_provenance_is_shown_to_its_last_leaf():
    config = {"sae": [{"k": 32, "seeds": [0, 1]}], "world": None}
    page = Report(title="t", provenance={"version": "1", "config": config}).to_html()
    assert "<summary>config</summary>" in page
    for key, value in (("sae › 0 › k", "32"), ("sae › 0 › seeds", "0, 1"), ("world", "—")):
        assert f"<dt>{key}</dt><dd>{value}</dd>" in page


def test_curve_labels():
    recorded = SimpleNamespace(steps=np.arange(2), members=1, values={"l0": np.ones((2, 1))})
    section = TrainingCurves.of({"a": recorded}, labels={"l0": "L0"})
    assert section.to_json()["curves"][0]["label"] == "L0"


def test_empty_report_is_still_a_page():
    page = Report(title="Nothing yet", sections=(Prose(title="雪", paragraphs=()),)).to_html()
    assert "<title>Nothing yet · Latent Assay</title>" in page
    assert 'id="s1"' in page


def test_a_large_browser_stays_small():
    rng = np.random.default_rng(0)
    length, width, contexts = 150_000, 4096, 10
    words = [f" w{i:x}" for i in range(20_000)]
    ids = np.minimum(rng.zipf(1.3, length), 20_000) - 1
    corpus = Corpus.of_ids(ids, words, np.arange(0, length, 128))
    saes = []
    for name in "ab":
        found = blank_contexts(width, contexts, length)
        found.density[:] = rng.random(width)
        found.maximum[:] = rng.random(width)
        found.histogram[:] = rng.integers(0, 300, found.histogram.shape)
        found.peaks[:] = rng.integers(0, length, found.peaks.shape)
        shape = found.activations.shape
        found.activations[:] = rng.integers(1, 127, shape) * (rng.random(shape) < 0.2)
        saes.append(
            LatentPages(
                name=name,
                contexts=found,
                cosine=rng.random(width, dtype=np.float32),
                nearest=rng.integers(0, width, (width, 8)),
                nearest_cosine=rng.random((width, 8), dtype=np.float32),
            )
        )
    page = Report(title="t", sections=(LatentBrowser(corpus=corpus, saes=tuple(saes)),)).to_html()
    assert len(page.encode()) < 8e6
