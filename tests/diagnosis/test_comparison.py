"""SAEs that are known to share some latents and not others."""

import json

import pytest
import torch
from click.testing import CliRunner

from latent_assay import cli, formats
from latent_assay.atomic import write_tensors
from latent_assay.diagnosis import ComparisonConfig, compare, comparison_json, comparison_sections
from latent_assay.errors import ConfigError, DataError, ShapeError
from latent_assay.recipes import topk
from latent_assay.report import Report
from latent_assay.runs.comparing import compare_files
from latent_assay.sae import SAE, stack
from latent_assay.sparsifiers import ReLU
from tests.activations import tiny_models

D_IN = 48


def directions(n, seed):
    rows = torch.randn(n, D_IN, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=-1)


def noisy(rows, seed, amount=0.02):
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows + amount * noise, dim=-1)


def sae_of(*members, threshold=0.3):
    biases = [torch.full((1, len(rows)), -threshold) for rows in members]
    return stack(
        [
            SAE(rows[None], b_enc=bias, sparsifier=ReLU()).eval()
            for rows, bias in zip(members, biases, strict=True)
        ]
    )


SHARED, OWN_A, OWN_B = directions(20, 0), directions(4, 1), directions(6, 2)


def seeds(rows, n=3, shuffled=True):
    made = []
    for seed in range(n):
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
        made.append(noisy(rows, 10 * seed + len(rows))[order if seed and shuffled else slice(None)])
    return sae_of(*made)


@pytest.fixture(scope="module")
def pair():
    """24 latents of A and 26 of B, of which the first 20 are the same."""
    return {"A": seeds(torch.cat([SHARED, OWN_A])), "B": seeds(torch.cat([SHARED, OWN_B]))}


def activations(n=600):
    everything = torch.cat([SHARED, OWN_A, OWN_B])
    generator = torch.Generator().manual_seed(5)
    fires = torch.rand(n, len(everything), generator=generator) < 0.05
    return (fires * (1 + torch.rand(n, len(everything), generator=generator))) @ everything


def test_what_one_alone_has_is_found(pair):
    found = compare(pair, activations().split(100))
    a, b = found.saes
    assert a.alone.sort().values.tolist() == [20, 21, 22, 23]
    assert b.alone.sort().values.tolist() == list(range(20, 26))
    assert a.stability is not None
    assert (a.stability == 1).all()
    (between,) = found.pairs
    assert between.between.covered.mean == pytest.approx(20 / 24)
    assert between.between.covering.mean == pytest.approx(20 / 26)
    assert between.chance.covered.mean == 0
    assert between.between.decoder_mcc.mean > 0.8 > between.chance.decoder_mcc.mean
    assert found.rows == 600
    assert not found.notes


def test_seeds_tell_how_much_of_a_difference_is_luck(pair):
    rows = torch.cat([SHARED, OWN_A])
    same = {"A": pair["A"], "again": sae_of(*(noisy(rows, seed) for seed in (101, 102, 103)))}
    (alike,) = compare(same).pairs
    assert alike.verdict == "A and again do not differ more than two seeds of one do."
    (different,) = compare(pair).pairs
    assert different.verdict == "A and B differ more than two seeds of A or B do."
    (single,) = compare({name: sae.take(0) for name, sae in pair.items()}).pairs
    assert "one member each" in single.verdict
    (two,) = compare({"A": pair["A"].take([0, 1]), "again": same["again"].take(0)}).pairs
    assert "too few seeds" in two.verdict


def test_latents_that_fire_alike_are_not_alone(pair):
    """An SAE that reads the same features but writes elsewhere has found them too."""
    turned = SAE(
        pair["A"].take(0).W_enc.data,
        directions(24, 7)[None],
        b_enc=pair["A"].take(0).b_enc.data,
        sparsifier=ReLU(),
    ).eval()
    found = compare({"A": pair["A"].take(0), "turned": turned}, [activations()])
    assert not len(found.saes[0].alone)
    assert len(compare({"A": pair["A"].take(0), "turned": turned}).saes[0].alone) == 24
    assert found.pairs[0].between.activation_mcc.mean == pytest.approx(1)


def test_dead_latents_are_neither_shared_nor_alone(pair):
    dead = pair["A"].take(0)
    dead.b_enc.data[0, :22] = -100
    found = compare({"dead": dead, "B": pair["B"].take(0)}, [activations()])
    assert found.saes[0].alone.sort().values.tolist() == [22, 23]
    assert found.pairs[0].between.covered.mean == 0


def test_batches_change_nothing_and_neither_does_order(pair):
    whole = comparison_json(compare(pair, [activations()]))
    cut = comparison_json(compare(pair, activations().split(7)))
    for one, other in zip(whole["saes"], cut["saes"], strict=True):
        for left, right in zip(one["alone"], other["alone"], strict=True):
            assert left == pytest.approx(right)
    between = [each["pairs"][0]["between"]["activation_mcc"]["mean"] for each in (whole, cut)]
    assert between[0] == pytest.approx(between[1])
    turned = comparison_json(compare({"B": pair["B"], "A": pair["A"]}, [activations()]))
    found = {each["name"]: [a["latent"] for a in each["alone"]] for each in turned["saes"]}
    assert found == {s["name"]: [a["latent"] for a in s["alone"]] for s in whole["saes"]}


def test_wide_saes_are_covered_but_not_matched(pair):
    found = compare(pair, [activations()], config=ComparisonConfig(widest=10))
    assert found.pairs[0].between.decoder_mcc is None
    assert found.pairs[0].between.activation_mcc is None
    assert found.pairs[0].between.covered.mean == pytest.approx(20 / 24)
    assert "wider than 10 latents" in found.notes[0]


def test_the_page_says_the_same_without_ranking(pair):
    found = compare(pair, [activations()])
    sections = comparison_sections(found, pair)
    page = Report(title="A and B", sections=sections).to_html()
    assert "differ more than two seeds of A or B do" in page
    assert "Only in A" in page
    assert "4 of 24 living latents of A have no counterpart" in page
    assert "Null baselines" in page
    (table,) = [each for each in sections if each.kind == "metrics_table"]
    assert all(not any(table.verdicts(column)) for column in table.columns)


def test_from_files(pair, tmp_path):
    for name, sae in pair.items():
        formats.save(sae, tmp_path / name, {})
    write_tensors(tmp_path / "x.safetensors", {"x": activations()})
    made = compare_files(
        [str(tmp_path / "A"), str(tmp_path / "B")],
        tmp_path / "out",
        activations=tmp_path / "x.safetensors",
        tokens=500,
        progress=False,
    )
    assert made.page.is_file()
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert content == made.content
    assert content["rows"] == 500
    assert [each["name"] for each in content["saes"]] == ["A", "B"]
    with pytest.raises(ConfigError, match="give --activations or --model"):
        compare_files(
            [str(tmp_path / "A"), str(tmp_path / "B")], tmp_path, activations=tmp_path, model="m"
        )
    with pytest.raises(ConfigError, match="is given twice"):
        compare_files([str(tmp_path / "A")] * 2, tmp_path / "out")


def test_the_command_shows_contexts(tmp_path):
    """From a model, text and two SAEs to a page whose latents have contexts and labels."""
    folder = tiny_models.save(tmp_path / "gpt2", "gpt2")
    (tmp_path / "text.txt").write_text("\n".join(tiny_models.text(12)))
    hook = "blocks.1.hook_resid_post"
    for name, seeds in (("A", (0, 1)), ("B", (2, 3))):
        sae = topk(d_in=16, width=12, k=2, seeds=seeds).sae.exported()
        formats.save(sae, tmp_path / name, {"hook_name": hook})
    arguments = ["compare", str(tmp_path / "A"), str(tmp_path / "B"), "--model", str(folder)]
    arguments += ["--text", str(tmp_path / "text.txt"), "--tokens", "300", "--json"]
    done = CliRunner().invoke(cli.main, [*arguments, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content["rows"] > 100
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (browser,) = [each for each in report["sections"] if each["kind"] == "latent_browser"]
    first = browser["saes"][0]
    alone = {each["latent"] for each in content["saes"][0]["alone"]}
    assert {i for i, label in enumerate(first["labels"]) if label == "only in A"} == alone
    only = next(each for each in report["sections"] if each["title"] == "Only in A")
    assert any("[" in paragraph for paragraph in only["paragraphs"]) == bool(alone)


def test_bad_input(pair):
    with pytest.raises(ConfigError, match="needs two SAEs or more, received A"):
        compare({"A": pair["A"]})
    narrow = SAE(torch.eye(3)[None], sparsifier=ReLU())
    with pytest.raises(ShapeError, match="d_in differ: A 48, narrow 3"):
        compare({"A": pair["A"], "narrow": narrow})
    with pytest.raises(DataError, match="must be finite"):
        compare(pair, [torch.full((2, D_IN), torch.nan)])
    with pytest.raises(ConfigError, match="a threshold above 0"):
        ComparisonConfig(threshold=1.5)
