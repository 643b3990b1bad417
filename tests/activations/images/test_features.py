"""Pre-training and features: stored, resumed, reopened, refused."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from latent_assay.activations import ActivationStore
from latent_assay.activations.images import (
    ContrastiveNetwork,
    NetworkConfig,
    PretrainingConfig,
    image_features,
    labelled_images,
    open_image_features,
    pretraining,
)
from latent_assay.errors import ConfigError, DataError, FormatError, TrainingDiverged

from .conftest import SMALL


@pytest.fixture
def images(pictures):
    return labelled_images(pictures, size=8)


def test_features_are_a_normal_file_with_labels(images, tmp_path):
    found = image_features(images, tmp_path / "run", **SMALL)
    assert found.store.n_rows == 24
    assert (found.store.d_in, found.n_train) == (12, 18)
    assert found.classes == ("apple", "brick", "cloud")
    assert found.labels.bincount().tolist() == [8, 8, 8]
    assert not torch.equal(found.labels, images.labels)  # in random order
    place = tmp_path / "run" / "features"
    plain = ActivationStore.from_file(place / "activations.safetensors")
    assert torch.equal(plain.rows(0, 24), found.store.rows(0, 24))
    assert (plain.rows(0, 24) >= 0).all()
    assert len(found.manifest["losses"]) == 3
    assert torch.equal(load_file(place / "labels.safetensors")["labels"], found.labels)
    # neither images nor network are needed any more
    again = open_image_features(tmp_path / "run")
    assert torch.equal(again.labels, found.labels)


def test_labels_belong_to_their_rows(images, tmp_path, monkeypatch):
    """A network whose backbone shows an image's mean colour."""
    features = ContrastiveNetwork.features
    monkeypatch.setattr(
        ContrastiveNetwork,
        "features",
        lambda self, x, layer: x.mean((2, 3)) if layer == "backbone" else features(self, x, layer),
    )
    found = image_features(images, tmp_path, layer="backbone", **SMALL)
    colour_of = {number: images[number].float().mean((1, 2)) / 255 for number in range(24)}
    seen = set()
    for row, label in zip(found.store.rows(0, 24), found.labels, strict=True):
        number = min(colour_of, key=lambda each: float((colour_of[each] - row).norm()))
        assert torch.allclose(colour_of[number], row, atol=1e-5)
        assert images.labels[number] == label
        seen.add(number)
    assert len(seen) == 24


def test_a_broken_off_run_goes_on_to_the_same_features(images, tmp_path, monkeypatch):
    whole = image_features(images, tmp_path / "whole", **SMALL)
    save = pretraining._save
    calls = []

    def break_off(*arguments):
        save(*arguments)
        calls.append(1)
        if len(calls) in (1, 2):
            raise KeyboardInterrupt

    monkeypatch.setattr(pretraining, "_save", break_off)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            image_features(images, tmp_path / "broken", **SMALL)
    resumed = image_features(images, tmp_path / "broken", **SMALL)
    assert len(calls) == 3
    assert resumed.manifest["losses"] == whole.manifest["losses"]
    assert torch.equal(resumed.store.rows(0, 24), whole.store.rows(0, 24))


def test_finished_features_are_opened_not_made_anew(images, tmp_path, monkeypatch):
    made = image_features(images, tmp_path, **SMALL)
    monkeypatch.setattr(pretraining, "contrastive_loss", None)
    again = image_features(images, tmp_path, **SMALL)
    assert torch.equal(again.store.rows(0, 24), made.store.rows(0, 24))
    # the other layer needs the network, but no training
    backbone = image_features(images, tmp_path, layer="backbone", **SMALL)
    assert backbone.store.d_in == 8


def test_other_settings_need_another_folder(images, pictures, tmp_path):
    image_features(images, tmp_path, **SMALL)
    other = SMALL | {"pretraining": replace(SMALL["pretraining"], seed=1)}
    with pytest.raises(DataError, match="made otherwise: pretraining differ"):
        image_features(images, tmp_path, **other)
    with pytest.raises(DataError, match="made otherwise: held_out, images differ"):
        image_features(labelled_images(pictures, size=9), tmp_path, held_out=0.5, **SMALL)


def test_training_learns_to_tell_images_apart(tmp_path):
    images = labelled_images("digits")
    settings = SMALL | {
        "pretraining": PretrainingConfig(epochs=6, batch_size=64, warm_up_epochs=0, lr=3e-3),
        "network": NetworkConfig(channels=(16, 32), depths=(1, 1), hidden=64, out=32),
    }
    found = image_features(images, tmp_path, held_out=0.7, **settings)
    first, *_, last = found.manifest["losses"]
    assert last < first - 0.3


def test_a_damaged_folder_is_named(images, tmp_path):
    image_features(images, tmp_path, **SMALL)
    place = tmp_path / "features"
    save_file({"labels": torch.zeros(3, dtype=torch.int64)}, place / "labels.safetensors")
    with pytest.raises(FormatError, match=r"24 activations, labels of shape \[3\]"):
        open_image_features(tmp_path)
    (place / "manifest.json").write_text(json.dumps({"format": 7}))
    with pytest.raises(FormatError, match="holds no features of images"):
        open_image_features(tmp_path)
    for file in place.iterdir():
        file.unlink()
    place.rmdir()
    (tmp_path / "pretraining" / "state.safetensors").write_bytes(b"nothing")
    with pytest.raises(FormatError, match="checkpoint of the pre-training"):
        image_features(images, tmp_path, **SMALL)


def test_what_is_refused(images, tmp_path):
    with pytest.raises(ConfigError, match="expected a share between 0 and 1"):
        image_features(images, tmp_path / "a", held_out=1.0, **SMALL)
    large = SMALL | {"pretraining": PretrainingConfig(epochs=2, warm_up_epochs=0, batch_size=19)}
    with pytest.raises(DataError, match="there are 18 images to train on but 19 per step"):
        image_features(images, tmp_path / "b", **large)
    with pytest.raises(ConfigError, match="fewer than all"):
        PretrainingConfig(epochs=3, warm_up_epochs=3)
    with pytest.raises(ConfigError, match="a positive learning rate"):
        PretrainingConfig(lr=0.0)
    wild = SMALL | {"pretraining": replace(SMALL["pretraining"], lr=1e30)}
    with pytest.raises(TrainingDiverged, match="stopped being finite"):
        image_features(images, tmp_path / "c", **wild)


def test_learning_rate_rises_and_falls():
    config = PretrainingConfig(epochs=10, warm_up_epochs=2, lr=1.0)
    rates = [config.lr_at(step, 5) for step in range(50)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert sorted(rates[10:], reverse=True) == rates[10:]
    assert rates[-1] < 0.01
