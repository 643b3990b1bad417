"""[[extension]] in a configuration: what it says, what it leaves, what is not done twice."""

import json
import tomllib
from dataclasses import replace

import pytest
import torch

from latent_assay.atomic import plain
from latent_assay.diagnosis.extension_study import _generator
from latent_assay.errors import ConfigError, FormatError
from latent_assay.metrics.hedging_degree import hedging_degree
from latent_assay.runs import train
from latent_assay.runs.config import parse_config, read_config
from latent_assay.runs.extension_pages import series_of
from latent_assay.runs.extension_runs import outcome_folder, together
from latent_assay.runs.sources import WorldData
from latent_assay.runs.stored_outcome import read_numbers, read_outcome

TEXT = """
title = "Hedging in a world"
[world]
preset = "hedging_copula"
d_in = 60
samples = 500
[training]
steps = 30
batch_size = 16
checkpoint_every = 10
[[extension]]
name = "BatchTopK"
recipe = "batchtopk"
about = "A sentence about it."
k = 11
lr = 1e-2
dead_after = 200
seeds = [0, 1]
n = 2
first_steps = 20
[extension.over]
width = [15, 20]
[extension.case]
cases = 1
"""


def config(text: str = TEXT):
    return parse_config(tomllib.loads(text))


def changed(old: str, new: str):
    assert old in TEXT
    return config(TEXT.replace(old, new))


# ------------------------------------------------------------------ what a file says


def test_axes_may_be_of_the_recipe_or_of_the_table():
    text = TEXT.replace("k = 11\n", "").replace("n = 2\n", "")
    text = text.replace("width = [15, 20]", "width = [15, 20]\nk = [5, 11]\nn = [1, 2]")
    (plan,) = config(text).extensions
    assert len(plan.settings) == 8
    first = plan.settings[0]
    assert first.axes == {"width": 15, "k": 5, "n": 1}
    assert (first.n, first.first_steps, first.steps) == (1, 20, None)
    assert first.plan.options["seeds"] == [0, 1]
    assert first.plan.members == 2
    # all numbers of new latents share one control
    assert [[each.n for each in group] for group in together(plan)] == [[1, 2]] * 4


def test_a_file_survives_a_round_trip(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(plain(config().to_json())))
    assert plain(read_config(path).to_json()) == plain(config().to_json())
    assert read_config(path).extensions == config().extensions


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("k = 11", "kk = 11", r"\[\[extension\]\] number 1.*knows no `kk`.*Did you mean `k`"),
        ("width = [15, 20]", "widht = [15]", r"cannot go over `widht`.*Did you mean `width`"),
        ("width = [15, 20]", "width = [15, 15]", "axis `width` needs different values"),
        ("width = [15, 20]", "width = []", "axis `width` needs different values, at least one"),
        ("width = [15, 20]", "width = [15]\nn = [1]", "sets `n` and goes over it too"),
        ("n = 2", "n = 0", "`n` must be a number from 1 up, got 0"),
        ("seeds = [0, 1]", "seeds = []", "needs at least one seed, got none"),
        ("lr = 1e-2", "lr = [1e-2, 2e-2, 3e-2]", "has 3 values; here members are seeds"),
        ("cases = 1", "at = { width = 16 }", "no setting has these values"),
        ("cases = 1", "member = 2", "member 2; expected 0 to 1"),
        ("cases = 1", "caes = 1", r"\[extension.case\] knows no `caes`.*Did you mean `cases`"),
        ("n = 2", "n = 2\nnorm = -1", "`norm` must be positive"),
        ("n = 2", "n = 2\npenalty_floor = -1", "`penalty_floor` must not be negative"),
        ("width = [15, 20]", "hook_point = ['a']\nwidth = [15]", r"\[model\] has none"),
    ],
)
def test_mistakes_are_named(old, new, says):
    with pytest.raises(ConfigError, match=says):
        changed(old, new)


def test_two_of_one_name():
    content = tomllib.loads(TEXT)
    content["extension"] *= 2
    with pytest.raises(ConfigError, match=r"\[\[extension\]\] needs a name of its own"):
        parse_config(content)


# ------------------------------------------------------------------ what a run leaves


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(config(), folder, progress=False)
    return folder


def numbers(folder):
    (plan,) = config().extensions
    return [read_numbers(outcome_folder(folder, plan, each)) for each in plan.settings]


def test_the_page_and_its_numbers(run):
    report = json.loads((run / "report.json").read_text())
    titles = [section["title"] for section in report["sections"]]
    assert "BatchTopK: Hedging degree against width" in titles
    assert "BatchTopK: who gave what to whom" in titles
    assert report["sections"][0]["paragraphs"] == ["A sentence about it."]
    (plan,) = config().extensions
    (series,) = series_of(plan, run)
    assert list(series.outcomes) == [15, 20]
    assert series.outcomes[15].degree.difference.shape == (2,)
    assert set(series.outcomes[15].metrics) >= {"l0", "fvu"}
    case = json.loads((run / "case_studies" / "batchtopk" / "report.json").read_text())
    assert case["title"].endswith("BatchTopK, width 15")
    assert len(case["sections"][0]["rows"]) == 4  # of one new latent, four old ones


def test_an_outcome_is_read_back_as_it_was(run):
    (plan,) = config().extensions
    folder = outcome_folder(run, plan, plan.settings[0])
    outcome = read_outcome(folder)
    assert (outcome.width, outcome.n) == (15, 2)
    assert outcome.control.widths == (15, 15)
    assert outcome.extended.widths == (17, 17)
    written = json.loads((folder / "outcome.json").read_text())
    assert outcome.degree.difference.tolist() == written["hedging_degree"]
    # decoder rows do not depend on the scale of activations, so the metric can be had again
    again = hedging_degree(outcome.control.W_dec, outcome.extended.W_dec, _generator(0))
    assert torch.equal(again.difference, outcome.degree.difference)
    assert not list(folder.parent.glob("*/checkpoint"))


def test_a_finished_run_is_only_reported_anew(run, monkeypatch):
    def no_training(self, batch_size, seed):
        raise AssertionError("nothing is left to train")

    monkeypatch.setattr(WorldData, "stream", no_training)
    before = numbers(run)
    train(config(), run, progress=False)
    assert torch.equal(before[0].degree.difference, numbers(run)[0].degree.difference)


# a setting takes 20 batches in its first phase, 30 in each of two others, and some to be measured
@pytest.mark.parametrize("batches", [13, 35, 65, 300])
def test_a_run_that_breaks_off_ends_as_if_it_had_not(run, tmp_path, monkeypatch, batches):
    given = 0
    stream = WorldData.stream

    def breaking(self, batch_size, seed):
        source = stream(self, batch_size, seed)

        class Breaking(type(source)):
            def __next__(self):
                nonlocal given
                given += 1
                if given > batches:
                    raise RuntimeError("the power went")
                return super().__next__()

        source.__class__ = Breaking
        return source

    with monkeypatch.context() as patch:
        patch.setattr(WorldData, "stream", breaking)
        with pytest.raises(RuntimeError, match="the power went"):
            train(config(), tmp_path, progress=False)
    train(config(), tmp_path, progress=False)
    for mine, other in zip(numbers(tmp_path), numbers(run), strict=True):
        for name in ("degree", "null"):
            a, b = (getattr(each, name).projection_by_latent for each in (mine, other))
            assert torch.equal(a, b)
        assert torch.equal(mine.new_density, other.new_density)


def test_ctrl_c_ends_the_run_and_keeps_what_there_is(tmp_path, monkeypatch, run):
    from latent_assay.diagnosis import extension_study

    fit = extension_study.fit

    def interrupted(sae, objective, batches, config, **others):
        history = fit(sae, objective, batches, replace(config, steps=10), **others)
        history.interrupted = True
        return history

    with monkeypatch.context() as patch:
        patch.setattr(extension_study, "fit", interrupted)
        outcome = train(config(), tmp_path, progress=False)
    assert outcome.interrupted
    assert outcome.report is None
    assert not list(tmp_path.rglob("both"))  # nothing was built on half a first phase
    with pytest.raises(FormatError, match="holds no outcome of an extension"):
        numbers(tmp_path)


def test_fresh_begins_anew(run, tmp_path):
    train(config(), tmp_path, progress=False)
    (plan,) = config().extensions
    place = outcome_folder(tmp_path, plan, plan.settings[0])
    written = (place / "numbers.safetensors").stat().st_mtime_ns
    train(config(), tmp_path, fresh=True, progress=False)
    assert (place / "numbers.safetensors").stat().st_mtime_ns > written
