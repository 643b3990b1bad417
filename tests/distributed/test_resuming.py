"""A checkpoint belongs to the run, not to a number of ranks."""

import json
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file

from latent_assay import checkpoint

from . import work
from .launching import succeed
from .test_equality import assert_close

NAMES = ["matryoshka_batchtopk", "topk"]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Two ranks, one of which gets a Ctrl-C."""
    folder = tmp_path_factory.mktemp("interrupted")
    succeed(2, "resumable", folder, names=NAMES, until=35)
    return folder


@pytest.mark.parametrize("ranks", [1, 3])
def test_two_ranks_go_on_as_another_number(interrupted, tmp_path, ranks):
    folder = tmp_path / "run"
    shutil.copytree(interrupted, folder)
    for name in NAMES:
        _, state = checkpoint.load(folder / name)
        assert 35 <= state["step"] < 60  # both stopped at the same step, and saved
    if ranks == 1:
        for name in NAMES:
            sae, history = work.train(name, folder=folder / name)
            compare(name, sae.state_dict(), history.records)
    else:
        succeed(ranks, "resumable", folder, names=NAMES, until=work.STEPS)
        for name in NAMES:
            for rank in range(ranks):
                place = folder / f"{name}-{rank}-of-{ranks}"
                records = json.loads(place.with_suffix(".json").read_text())
                compare(name, load_file(f"{place}.sae"), records)
    for name in NAMES:
        lines = (folder / name / "log.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(10, work.STEPS + 1, 10))


def compare(name, state, records):
    expected, history = work.train(name)
    for key, tensor in expected.state_dict().items():
        assert_close(state[key], tensor)
    values = np.array([record["loss"] for record in records])
    np.testing.assert_allclose(values, history["loss"], rtol=1e-9, atol=1e-9)


def test_a_checkpoint_of_ranks_is_laid_out_like_that_of_one_process(interrupted, tmp_path):
    for name in NAMES:
        found, state = checkpoint.load(interrupted / name)
        work.train(name, folder=tmp_path / name, steps=10)
        expected, alone = checkpoint.load(tmp_path / name)
        assert {k: (v.shape, v.dtype) for k, v in found.items()} == {
            k: (v.shape, v.dtype) for k, v in expected.items()
        }
        alone["settings"]["config"]["steps"] = work.STEPS
        assert state["settings"] == alone["settings"]
