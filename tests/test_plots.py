"""Figures hold what they were given, and become SVG that a page can theme."""

import re
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

from latent_assay import plots
from latent_assay.errors import ConfigError, DataError, ShapeError
from latent_assay.plots import style


def history(values: np.ndarray, metric: str = "loss") -> SimpleNamespace:
    return SimpleNamespace(
        steps=np.arange(len(values)), values={metric: values}, members=values.shape[1]
    )


def test_band_is_the_mean_and_the_range_over_members():
    values = np.array([[1.0, 3.0], [np.nan, 5.0], [np.nan, np.nan]])
    (band,) = plots.member_bands({"a": history(values)}, "loss")
    np.testing.assert_array_equal(band.mean, [2.0, 5.0, np.nan])
    np.testing.assert_array_equal(band.low, [1.0, 5.0, np.nan])
    np.testing.assert_array_equal(band.high, [3.0, 5.0, np.nan])
    assert band.members == 2


def test_band_treats_infinity_as_missing():
    (band,) = plots.member_bands({"a": history(np.array([[np.inf, 1.0]]))}, "loss")
    assert band.mean == [1.0]


def test_curves_draw_every_history_in_a_panel_per_metric():
    rng = np.random.default_rng(0)
    histories = {name: history(rng.random((30, 3)) + 0.1) for name in ("a", "_b $x$")}
    figure = plots.training_curves(histories, log=True)
    (panel,) = figure.axes
    assert panel.get_title(loc="left") == "loss"
    assert panel.get_yscale() == "log"
    means = [line.get_ydata() for line in panel.get_lines()]
    np.testing.assert_allclose(means[1], histories["_b $x$"].values["loss"].mean(1))
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [text.strip("\u200b") for text in texts] == ["a", "_b $x$"]
    plots.inline_svg(figure, prefix="f", label="curves")


def test_curves_thin_long_histories_but_keep_their_extremes():
    values = np.ones((5001, 1))
    values[1234] = 9.0
    values[4321] = -7.0
    histories = {"a": history(np.concatenate([values, values], axis=1))}
    panel = plots.training_curves(histories).axes[0]
    (line,) = panel.get_lines()
    assert len(line.get_xdata()) <= 400
    assert line.get_xdata()[-1] == 5000
    corners = panel.collections[0].get_paths()[0].vertices
    assert corners[:, 1].max() == 9.0
    assert corners[:, 1].min() == -7.0


@pytest.mark.parametrize("values", [np.zeros((4, 2)), np.full((3, 1), np.nan), np.ones((1, 1))])
def test_curves_survive_values_that_a_log_axis_cannot_show(values):
    figure = plots.training_curves({"a": history(values)}, log=True)
    assert "<svg" in plots.inline_svg(figure, prefix="f", label="curves")


@pytest.mark.parametrize(("value", "top"), [(0.0, 1.0), (3.0, 3.0)])
def test_curves_leave_no_room_for_counts_below_zero(value, top):
    values = np.array([[0.0], [value]])
    bottom, highest = plots.training_curves({"a": history(values)}).axes[0].get_ylim()
    assert -0.1 < bottom < 0
    assert highest >= top


def test_unknown_metric_is_named():
    with pytest.raises(ConfigError, match=r"recorded \(loss\), received L0"):
        plots.training_curves({"a": history(np.ones((2, 1)))}, ["L0"])


def test_history_of_the_wrong_shape_is_refused():
    wrong = SimpleNamespace(steps=np.arange(3), values={"loss": np.ones((2, 1))}, members=1)
    with pytest.raises(ShapeError, match=r"shape \[3, member\], but it has \[2, 1\]"):
        plots.member_bands({"a": wrong}, "loss")


def test_density_bins_count_every_latent_once():
    rng = np.random.default_rng(0)
    density = np.where(rng.random(500) < 0.2, 0.0, 10 ** rng.uniform(-5, 0, 500))
    bins = plots.density_bins({"a": density, "b": np.ones(3)})
    assert bins[0].counts.sum() == np.count_nonzero(density)
    assert bins[0].outside == np.count_nonzero(density == 0)
    assert bins[1].counts[-1] == 3
    np.testing.assert_array_equal(bins[0].edges, bins[1].edges)


def test_density_histogram_without_a_living_latent():
    figure = plots.density_histogram({"a": np.zeros(5)})
    (text,) = figure.axes[0].get_legend().get_texts()
    assert text.get_text() == "a (5 never fire)"
    plots.inline_svg(figure, prefix="f", label="histogram")


def test_density_must_be_a_fraction():
    with pytest.raises(DataError, match=r"must lie in \[0, 1\], but they reach from 0 to 17"):
        plots.density_histogram({"a": np.array([0.0, 17.0])})


def test_bins_need_one_edge_more_than_counts():
    with pytest.raises(ShapeError, match="one edge more than counts"):
        plots.Bins(name="a", edges=np.arange(3.0), counts=np.arange(3))


def test_metric_bars_show_mean_and_sd_in_the_rows_order():
    rows = [
        plots.MetricBar(name="a", mean=0.5, sd=0.1),
        plots.MetricBar(name="null", mean=0.2, kind="baseline"),
        plots.MetricBar(name="truth", mean=None, kind="oracle"),
    ]
    (panel,) = plots.metric_bars(rows, label="MCC").axes
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["a", "null", "truth"]
    whisker = panel.collections[0].get_segments()[0]
    np.testing.assert_allclose(whisker[:, 0], [0.4, 0.6])
    assert [text.get_text() for text in panel.texts] == ["—"]


def test_diagonal_order_undoes_a_shuffle():
    rng = np.random.default_rng(0)
    cosines = np.eye(8) * 0.9 + rng.normal(0, 0.05, (8, 8))
    shuffle = rng.permutation(8)
    np.testing.assert_array_equal(shuffle[plots.diagonal_order(cosines[shuffle])], np.arange(8))


def test_diagonal_order_with_more_latents_than_features_is_a_permutation():
    cosines = np.array([[0.1, 0.2], [0.0, 0.9], [-0.8, 0.1], [0.7, 0.0], [0.0, 0.3]])
    order = plots.diagonal_order(cosines)
    assert list(order[:2]) == [2, 1]
    assert list(order[2:]) == [3, 4, 0]  # by nearest feature, then by strength


def test_map_writes_numbers_in_few_cells_and_paints_many():
    small = plots.cosine_map(np.array([[0.98, -0.31], [0.001, 1.0]]))
    assert [text.get_text() for text in small.axes[0].texts] == [".98", "−.31", "0", "1"]
    large = plots.cosine_map(np.zeros((50, 40)))
    assert not large.axes[0].texts
    assert large.axes[0].images[0].get_array().shape == (50, 40, 4)


def test_map_strength_is_the_opacity():
    figure = plots.cosine_map(np.array([[0.25, -0.5, np.nan]]))
    squares = {p.get_gid(): p for p in figure.axes[0].patches if p.get_gid()}
    assert squares["cell-0-0"].get_alpha() == 0.25
    assert squares["cell-0-1"].get_alpha() == 0.5
    assert "cell-0-2" not in squares


def test_maps_of_several_saes_share_one_row():
    maps = {"plain": np.eye(3), "tied": np.eye(3)}
    figure = plots.cosine_maps(maps, {"plain": np.eye(3)}, features=["x", "y", "$z"])
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    assert titles == ["plain · encoder", "", "plain · decoder", "tied · decoder"]
    assert not figure.axes[1].get_visible()
    plots.inline_svg(figure, prefix="f", label="maps")


def test_map_refuses_what_is_no_cosine():
    with pytest.raises(DataError, match=r"values in \[-1, 1\], received values from 0 to 2"):
        plots.cosine_map(np.array([[0.0, 2.0]]))
    with pytest.raises(DataError, match=r"values in \[0, 1\]"):
        plots.firing_map(np.array([[-0.5]]))
    with pytest.raises(ShapeError, match="2 features but 1 names"):
        plots.cosine_map(np.zeros((1, 2)), features=["a"])
    with pytest.raises(DataError, match="at least one SAE"):
        plots.cosine_maps({})


def test_compact_ticks():
    given = (0, 1500, -2e6, 0.003, 2e-5, -1e-4)
    expected = ["0", "1.5k", "−2M", "0.003", "2·10⁻⁵", "−10⁻⁴"]
    assert [style.compact(v) for v in given] == expected


def test_svg_is_themed_self_contained_and_repeatable():
    values = np.array([[0.9, -0.9], [0.0, 0.3]])

    def draw() -> str:
        figure = plots.cosine_map(values, features=["<b>&", "雪\x00"])
        return plots.inline_svg(
            figure, prefix="p1", label='a "map" <x>', tooltips={"cell-0-1": "</title><script>"}
        )

    svg = draw()
    assert svg == draw()
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == 'a "map" <x>'
    assert not re.search(r'style="|<style|<metadata|xmlns|http', svg)
    assert not re.search(r"#[0-9a-f]{6}", svg), "a colour that does not follow the theme"
    for name in ("--positive", "--negative", "--panel", "--muted", "--on-strong"):
        assert f"var({name})" in svg
    titles = [element.text for element in root.iter("title")]
    assert titles == ["</title><script>"]
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert ids
    assert all(each.startswith("p1-") for each in ids)
    assert set(re.findall(r"#(p1-[^)\"]+)", svg)) == set(ids)


def test_svg_of_a_picture_keeps_its_data_inside():
    svg = plots.inline_svg(plots.cosine_map(np.zeros((50, 40))), prefix="p", label="map")
    (image,) = ElementTree.fromstring(svg).iter("image")
    assert image.get("href", "").startswith("data:image/png;base64,")


def test_font_shorthand_of_older_matplotlib_is_read():
    from latent_assay.plots.svg import _declarations

    old = "font: 700 11px 'DejaVu Sans', sans-serif; text-anchor: middle; fill: #1d1f23"
    assert dict(_declarations(old)) == {
        "text-anchor": "middle",
        "fill": "#1d1f23",
        "font-size": "11px",
        "font-weight": "700",
    }
    assert "font-weight" not in dict(_declarations("font: 10px 'A 700', serif"))
