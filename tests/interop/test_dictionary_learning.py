"""We load what dictionary_learning trains and saves."""

import json

import pytest

from latent_assay import formats

from .agreement import ours_as_expected
from .environments import run

pytestmark = pytest.mark.interop

CLASSES = {
    "StandardTrainer": "AutoEncoder",
    "StandardTrainerAprilUpdate": "AutoEncoder",
    "PAnnealTrainer": "AutoEncoder",
    "GatedSAETrainer": "GatedAutoEncoder",
    "GatedAnnealTrainer": "GatedAutoEncoder",
    "JumpReluTrainer": "JumpReluAutoEncoder",
    "TopKTrainer": "AutoEncoderTopK",
    "BatchTopKTrainer": "BatchTopKSAE",
    "MatryoshkaBatchTopKTrainer": "MatryoshkaBatchTopKSAE",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dictionary_learning")
    run("dictionary-learning", "make", folder)
    return folder


def test_everything_that_dictionary_learning_knows_is_tried(made):
    known = json.loads((made / "known.json").read_text())
    assert set(known["trainers"]) == set(CLASSES)
    # one has a test of its own below, the other has no weights and writes no file
    assert set(known["classes"]) == set(CLASSES.values()) | {"AutoEncoderNew", "IdentityDict"}


@pytest.mark.parametrize("trainer", CLASSES)
def test_we_load_what_each_trainer_saves(trainer, made):
    place = made / trainer / "trainer_0"
    (reading,) = formats.read(place)
    assert ours_as_expected(reading.sae, place) is None
    assert reading.architecture == CLASSES[trainer]
    assert reading.model == "EleutherAI/pythia-70m-deduped"
    # a checkpoint, whose configuration lies one folder up
    (checkpoint,) = formats.read(place / "checkpoints" / "ae_2.pt")
    assert checkpoint.architecture == CLASSES[trainer]


def test_the_class_that_no_trainer_makes(made):
    (reading,) = formats.read(made / "AutoEncoderNew")
    assert ours_as_expected(reading.sae, made / "AutoEncoderNew") is None
