"""The experiment, its report and its case study, at a size of seconds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from latent_assay import recipes
from latent_assay.activations import LanguageModel, harvest
from latent_assay.diagnosis import (
    CaseConfig,
    ExtensionConfig,
    case_study,
    degree_reading,
    degree_sections,
    extension_outcome,
    extension_report,
    hedging_degree_study,
    outcomes_by_n,
)
from latent_assay.diagnosis.extension_report import _axis
from latent_assay.errors import ConfigError, DataError
from latent_assay.worlds import presets

from ..activations import tiny_models

WORLD = presets.hedging_copula(d_in=60)
SEEDS = (0, 1)
CONFIG = ExtensionConfig(n=2, first_steps=150, steps=150)


def make(widths, seeds):
    recipe = recipes.batchtopk(
        d_in=WORLD.d_in, width=widths, k=11, seeds=seeds, lr=1e-2, dead_after=3_000, auxk=1.0
    )
    return recipe._replace(config=replace(recipe.config, lr_decay_steps=60))


def batches(seed):
    return WORLD.stream(64, seeds=seed)


def held_out():
    return [WORLD.sample(1_000, torch.Generator().manual_seed(99)).x]


@pytest.fixture(scope="module")
def outcomes():
    return hedging_degree_study(
        make, (15, 40), batches, seeds=SEEDS, config=CONFIG, held_out=held_out, progress=False
    )


def test_degree_falls_with_width_and_exceeds_its_null(outcomes):
    h = {width: each.degree.difference for width, each in outcomes.items()}
    assert h[15].mean() > 1.5 * h[40].mean()
    assert h[15].mean() > 2 * outcomes[15].null.difference.mean()
    for width, each in outcomes.items():
        assert each.control.widths == (width,) * 2
        assert each.extended.widths == (width + 2,) * 2
        assert each.metrics["fvu"].shape == (2,)
        assert each.new_density.shape == (2, 2)
        assert (each.new_density > 0).all()


def test_a_study_does_not_depend_on_its_other_widths(outcomes, tmp_path):
    alone = extension_outcome(
        make, 15, batches, seeds=SEEDS, config=CONFIG, folder=tmp_path, progress=False
    )
    torch.testing.assert_close(alone.degree.difference, outcomes[15].degree.difference)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["again", "both", "first"]
    assert alone.metrics == {}

    class Finished(type(batches(0))):
        """May be read from its beginning, to see which new latents fire, but not gone on with."""

        def load_state_dict(self, state):
            self.draw = None

    def no_batches(seed):
        stream = batches(seed)
        return Finished(stream.draw, stream.device, stream.batch_size, seeds=seed)

    again = extension_outcome(
        make, 15, no_batches, seeds=SEEDS, config=CONFIG, folder=tmp_path, progress=False
    )
    assert torch.equal(again.degree.difference, alone.degree.difference)
    assert torch.equal(again.null.difference, alone.null.difference)


def test_several_extensions_share_one_control(outcomes):
    found = outcomes_by_n(make, 15, batches, (1, 2), seeds=SEEDS, config=CONFIG, progress=False)
    assert found[1].control is found[2].control
    assert found[1].extended.widths == (16,) * 2
    # in company with another extension all is as it was
    torch.testing.assert_close(
        found[2].degree.difference, outcomes[15].degree.difference, atol=1e-3, rtol=1e-3
    )


def test_sleeping_new_latents_are_told():
    """Rows too short to be among the k largest: nothing is learned, and the page says so."""

    def without_rescue(widths, seeds):
        return recipes.batchtopk(
            d_in=WORLD.d_in, width=widths, k=2, seeds=seeds, lr=1e-2, dead_after=10**9
        )

    config = ExtensionConfig(n=2, first_steps=100, steps=20, norm=1e-6)
    found = extension_outcome(
        without_rescue, 15, batches, seeds=(0, 1), config=config, progress=False
    )
    assert found.degree.difference.tolist() == [0, 0]
    assert "Most new latents never fire (100% at width 15)" in degree_reading({15: found})


# ------------------------------------------------------------------ on a page


def test_sections_hold_the_numbers(outcomes):
    prose, forms, parts, table, histogram = degree_sections(outcomes)
    h = {width: each.degree.difference.numpy() for width, each in outcomes.items()}
    extended, null = forms.curves[0].bands
    assert extended.steps.tolist() == [15, 40]
    np.testing.assert_allclose(extended.mean, [h[15].mean(), h[40].mean()])
    np.testing.assert_allclose(extended.high, [h[15].max(), h[40].max()])
    assert null.mean[0] == pytest.approx(float(outcomes[15].null.difference.mean()))
    assert [curve.metric for curve in forms.curves] == ["difference", "rescaled"]
    assert [curve.metric for curve in parts.curves] == ["projection", "baseline"]
    row = table.rows[0]
    assert row.name == "width 15"
    assert row.cells["difference"].sd == pytest.approx(h[15].std(ddof=1))
    assert row.cells["null_rescaled"].mean == pytest.approx(
        float(outcomes[15].null.rescaled.mean())
    )
    assert row.cells["fvu"].mean == pytest.approx(float(outcomes[15].metrics["fvu"].mean()))
    assert [int(bins.counts.sum()) for bins in histogram.series] == [30, 80]
    assert "falls at every step" in prose.paragraphs[0]


def test_reading_of_one_point_and_of_none(outcomes):
    assert "At k 15 the hedging degree is" in degree_reading({15: outcomes[15]}, axis="k")
    with pytest.raises(DataError, match="expected at least one outcome"):
        degree_sections({})


def test_unequal_ensembles_do_not_share_a_curve(outcomes):
    # one seed as if it had been trained alone
    degree = type(outcomes[15].degree)(
        projection_by_latent=outcomes[15].degree.projection_by_latent[:1],
        baseline_by_latent=outcomes[15].degree.baseline_by_latent[:1],
    )
    with pytest.raises(DataError, match=r"same number of members, got \{15: 1, 40: 2\}"):
        degree_sections({15: replace(outcomes[15], degree=degree), 40: outcomes[40]})


def test_powers_far_apart_are_told_by_exponent():
    steps, label = _axis([128, 1024, 65536], "width")
    assert steps.tolist() == [7, 10, 16]
    assert label == "width, as a power of 2"
    for values in ([0, 6, 12], [100, 65536], [64, 128]):
        assert _axis(values, "layer") == (pytest.approx(values), "layer")


def test_page_is_written(outcomes, tmp_path):
    report = extension_report(outcomes, sections=case_study(outcomes[15]), created="today")
    page = report.write(tmp_path).read_text(encoding="utf-8")
    assert "Hedging degree of each latent" in page
    assert "Who gave most to whom" in page


# ------------------------------------------------------------------ the case study


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    model = LanguageModel.load(tiny_models.save(folder / "model", "gpt2"))
    point = "blocks.1.hook_resid_post"
    return harvest(
        model,
        tiny_models.text(30),
        hook_points=point,
        folder=folder / "activations",
        context_size=32,
        progress=False,
    )[point]


def test_case_study_with_contexts(store, tmp_path):
    scale = store.normalising_scale
    found = extension_outcome(
        lambda widths, seeds: recipes.batchtopk(
            d_in=store.d_in, width=widths, k=3, seeds=seeds, lr=1e-2, dead_after=1_000
        ),
        8,
        lambda seed: store.stream(64, seed, scale=scale),
        seeds=(0, 1),
        config=ExtensionConfig(n=3, first_steps=100, steps=100),
        progress=False,
    )
    config = CaseConfig(cases=2, top=3, contexts=2, rows=600)
    table, first, second, browser = case_study(
        found, member=1, store=store, scale=scale, config=config
    )
    assert len(table.rows) == 6
    new = int(first.title.removeprefix("New latent "))
    assert 8 <= new < 11
    assert len(first.paragraphs) == 4
    assert first.paragraphs[0].startswith(f"new {new}, fires on")
    # the labels name every latent of the list once
    labels = browser.saes[0].labels
    assert labels[0].startswith(f"new {new}: from")
    assert len(labels) == browser.saes[0].contexts.width == len(set(labels))
    # the bracketed token of the first context is where the new latent fires most
    sae = found.extended.take(1)
    part = store.part(0, 600)
    z = torch.cat([sae.encode(x.float() * scale)[0, :, new] for x, _, _ in part.in_order(600)])
    where = [(c, p) for _, cs, ps in part.in_order(600) for c, p in zip(cs, ps, strict=True)]
    context, position = where[int(z.argmax())]
    peak = store.tokens_text(store.context(int(context)))[int(position)]
    assert f"[{peak}]" in first.paragraphs[0].splitlines()[1]
    page = extension_report({8: found}, sections=(table, first, second, browser)).write(tmp_path)
    assert f"old {int(labels[-1].split()[1][:-1])}" in page.read_text(encoding="utf-8")


# ------------------------------------------------------------------ refusals


def test_what_cannot_be_is_refused(outcomes):
    with pytest.raises(ConfigError, match=r"different widths, at least one, got \[\]"):
        hedging_degree_study(make, (), batches)
    with pytest.raises(ConfigError, match=r"different numbers, at least one, got \[2, 2\]"):
        outcomes_by_n(make, 15, batches, (2, 2))
    with pytest.raises(ConfigError, match="at least one seed, got none"):
        extension_outcome(make, 15, batches, seeds=())
    with pytest.raises(ConfigError, match="`steps` must be at least 1, got 0"):
        ExtensionConfig(steps=0)
    with pytest.raises(ConfigError, match="`seed` must not be negative"):
        ExtensionConfig(seed=-1)
    with pytest.raises(ConfigError, match="`rows` must be at least 1"):
        CaseConfig(rows=0)
    with pytest.raises(ConfigError, match="members 0 to 1"):
        case_study(outcomes[15], member=7)
