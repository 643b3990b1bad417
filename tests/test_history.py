import json
import math

import numpy as np
import pytest

from latent_assay.errors import ConfigError, FormatError
from latent_assay.history import History


@pytest.fixture
def history() -> History:
    history = History()
    history.append(100, 51_200, {"loss": [0.5, 0.4], "l0": [3.0, 4.0]})
    history.append(200, 102_400, {"loss": [0.3, math.nan], "l0": [3.5, 4.5]})
    return history


def test_axes_and_values(history):
    assert history.steps.tolist() == [100, 200]
    assert history.samples.tolist() == [51_200, 102_400]
    assert history.steps.dtype == np.int64
    assert history.names == ["loss", "l0"]
    assert history.members == 2
    np.testing.assert_array_equal(history["loss"], [[0.5, 0.4], [0.3, math.nan]])
    np.testing.assert_array_equal(history.values["l0"], [[3.0, 4.0], [3.5, 4.5]])
    assert list(history.values) == history.names
    assert not history.interrupted


def test_nothing_logged():
    history = History()
    assert history.names == []
    assert history.members == 0
    assert history.values == {}
    assert history.steps.shape == (0,)
    with pytest.raises(ConfigError, match="nothing called `loss` was logged; there are no records"):
        history["loss"]


def test_unknown_name(history):
    with pytest.raises(
        ConfigError, match=r"nothing called `los` was logged; there are loss, l0\. Did you mean `lo"
    ):
        history["los"]
    for axis in ("step", "samples"):  # what it is logged over is no quantity
        with pytest.raises(ConfigError, match="nothing called"):
            history[axis]


def test_words_for_nan_are_read_as_numbers():
    """As they stand in a log file, which has no NaN."""
    history = History([{"step": 1, "samples": 2, "loss": ["nan", "inf", 0.5]}])
    np.testing.assert_array_equal(history["loss"], [[math.nan, math.inf, 0.5]])


def test_a_log_file_is_read_back(history, tmp_path):
    lines = [json.dumps(record | {"loss": [0.5, 0.25]}) for record in history.records]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n")
    again = History.read(tmp_path / "log.jsonl")
    assert again.steps.tolist() == [100, 200]
    np.testing.assert_array_equal(again["l0"], history["l0"])


@pytest.mark.parametrize("text", ["{", "[1]", '{"loss": [1]}', "3"])
def test_a_file_that_is_no_log(text, tmp_path):
    (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(FormatError, match=r"log\.jsonl' is not a training log"):
        History.read(tmp_path / "log.jsonl")


def test_a_log_that_is_not_there(tmp_path):
    with pytest.raises(FormatError, match="is not a training log"):
        History.read(tmp_path / "none.jsonl")


def test_plot(history):
    figure = history.plot()
    assert len([axes for axes in figure.axes if axes.get_visible()]) == 2
    assert len(history.plot("loss").axes) == 1


def test_a_line_that_a_killed_process_left_half_written_is_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "samples": 2, "loss": [0.5]}\n{"step": 2, "sam')
    assert History.read(path).steps.tolist() == [1]
    path.write_text('{"step": 1, "samples": 2, "loss": [0.5]}\n{"step": 2, "sam\n')
    with pytest.raises(FormatError, match="is not a training log"):
        History.read(path)


def test_some_members_alone(history):
    taken = history.take([1])
    assert taken["loss"].tolist()[0] == [0.4]
    assert taken["l0"].tolist() == [[4.0], [4.5]]
    assert taken.steps.tolist() == history.steps.tolist()
