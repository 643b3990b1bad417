"""sparsify's files, and the sparsifier that only it has."""

import json

import pytest
import torch
from safetensors.torch import save_file

from latent_assay.errors import ConfigError, FormatError
from latent_assay.formats import load, read, save
from latent_assay.formats.group_max import GroupMax

from .foreign import D, K, W, X, draw, sparsify


@pytest.mark.parametrize("activation", ["topk", "groupmax"])
def test_what_it_computes(activation, tmp_path):
    folder, t = sparsify(tmp_path / "layers.3", activation=activation)
    pre = ((X - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"]).relu()
    if activation == "topk":
        z = pre * (pre >= pre.topk(K).values[:, -1:])
    else:
        groups = pre.view(-1, K, W // K)
        z = (groups * (groups == groups.amax(-1, keepdim=True))).view(-1, W)
    sae = load(folder)
    with torch.no_grad():
        torch.testing.assert_close(sae.encode(X)[0], z)
        torch.testing.assert_close(sae(X)[0], z @ t["W_dec"] + t["b_dec"])


def test_where_it_comes_from(tmp_path):
    folder, _ = sparsify(tmp_path / "run" / "layers.3")
    (reading,) = read(folder)
    assert (reading.model, reading.hook_point) == (None, "layers.3")
    (tmp_path / "run" / "config.json").write_text(json.dumps({"model": "pythia"}))
    assert read(folder)[0].model == "pythia"
    (tmp_path / "run" / "config.json").write_text("{")  # it only informs
    assert read(folder)[0].model is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"transcode": True}, "has transcode = True and cannot be represented: a transcoder"),
        ({"skip_connection": True}, "has a part W_skip x that no latent carries"),
        ({"transcode": "no"}, "has transcode = 'no'"),
        ({"k": 0}, "has k = 0; expected a whole number from 1 to 6"),
        ({"k": True}, "has k = True"),
        ({"k": 7}, "has k = 7"),
        ({"activation": "relu"}, "has activation = 'relu'"),
        ({"activation": "groupmax", "k": 4}, "a k that divides the width"),
        ({"d_in": 5}, "says d_in 5 and num_latents 0"),
        ({"num_latents": 7}, "the two files do not belong together"),
    ],
)
def test_configurations_that_do_not_fit(config, message, tmp_path):
    with pytest.raises(FormatError, match=message):
        load(sparsify(tmp_path / "sae", **config)[0])


def test_weights_that_do_not_fit(tmp_path):
    folder, t = sparsify(tmp_path / "sae")
    save_file({name: each for name, each in t.items() if name != "W_dec"}, folder / "sae.safetens")
    (folder / "sae.safetens").replace(folder / "sae.safetensors")
    with pytest.raises(FormatError, match="lacks a matrix W_dec"):
        load(folder)
    save_file(t | {"encoder.bias": draw(W + 1)}, folder / "sae.safetensors")
    with pytest.raises(FormatError, match=r"`encoder.bias` in .* W_dec gives d_in 4 and width 6"):
        load(folder)


def test_groupmax_has_no_word_in_the_layout(tmp_path):
    sae = load(sparsify(tmp_path / "sae", activation="groupmax")[0])
    why = "no word for the sparsifier GroupMax.*the largest of each group.*Keep sparsify's own file"
    with pytest.raises(FormatError, match=why):
        save(sae, tmp_path / "target")


def test_groupmax_as_a_sparsifier():
    pre = draw(2, 5, 6, seed=1)
    pre[0, 0] = -pre[0, 0].abs()  # where nothing is positive, nothing fires
    sparsifier = GroupMax(3)
    z = sparsifier(pre)
    assert int((z != 0).sum(-1).max()) <= sparsifier.expected_l0 == 3
    assert not z[0, 0].any()
    selected = torch.zeros(pre.shape, dtype=torch.bool)
    selection = sparsifier.select(pre)
    rows = torch.repeat_interleave(torch.arange(10), selection.row_start.diff())
    selected[rows // 5, rows % 5, selection.column % 6] = True
    assert torch.equal(torch.where(selected, pre.relu(), 0.0), z)
    assert sparsifier.settings() == {"k": 3}
    with pytest.raises(ConfigError, match="needs a width that is a multiple of it, got 7"):
        sparsifier.check(1, 7)
    assert D == 4
