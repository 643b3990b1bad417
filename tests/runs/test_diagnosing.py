"""From files of an SAE to a folder with its diagnosis and the page."""

import json

import numpy as np
import pytest
import torch

from latent_assay import baselines, formats
from latent_assay.diagnosis import Diagnosis, Tier
from latent_assay.errors import ConfigError, DataError
from latent_assay.runs.data import Data
from latent_assay.runs.diagnosing import diagnose_files
from latent_assay.runs.diagnosis_pages import MOST_SAES, Patient, diagnose_run
from latent_assay.sae import SAE
from latent_assay.sparsifiers import JumpReLU
from latent_assay.worlds import presets

TEXT = "\n\n".join(f"The {a} sat on the {b}." for a in ("cat", "dog") for b in ("mat", "</script>"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """An SAE that has found the true features."""
    features = presets.absorption().features
    threshold = JumpReLU(torch.full((1, len(features)), 0.3))
    sae = SAE(features[None].clone(), features[None].clone(), sparsifier=threshold).eval()
    folder = tmp_path_factory.mktemp("sae") / "found"
    formats.save(sae, folder, {})
    return str(folder)


def test_a_world_gives_a_page_with_the_truth(saved, tmp_path):
    out = tmp_path / "d"
    found = diagnose_files(saved, world="absorption", samples=3_000, folder=out, progress=False)
    assert found.evidence.n_samples == 3_000
    assert {p.name for p in out.iterdir()} == {
        "diagnosis.html",
        "diagnosis.json",
        "diagnosis.safetensors",
    }
    assert json.loads((out / "diagnosis.json").read_text())["width"] == 4
    page = (out / "diagnosis.html").read_text()
    assert "Of 4 verdicts: 4 true" in page
    again = diagnose_files(saved, world="absorption", samples=3_000, folder=out, progress=False)
    np.testing.assert_array_equal(again.probabilities, found.probabilities)


def test_without_a_folder_nothing_is_written(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert diagnose_files(saved, progress=False).tier == Tier.WEIGHTS
    assert list(tmp_path.iterdir()) == []


def test_ones_own_activations_have_no_text(saved, tmp_path):
    x = presets.absorption().sample(2_000, torch.Generator().manual_seed(0)).x
    np.save(tmp_path / "x.npy", x.numpy())
    diagnose_files(
        saved, activations=tmp_path / "x.npy", samples=500, folder=tmp_path / "d", progress=False
    )
    assert Diagnosis.read(tmp_path / "d").evidence.n_samples == 500
    assert '"example.position":{' not in (tmp_path / "d" / "diagnosis.html").read_text()


def test_a_model_is_harvested_beside_the_folder_and_its_text_shown(tmp_path):
    (tmp_path / "t.txt").write_text(TEXT)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 384, generator=generator)
    sae = baselines.random_dictionary(x, width=32, l0=4.0, seeds=(0,))
    formats.save(sae, tmp_path / "sae", {"hook_name": "blocks.1.hook_resid_post"})
    for _ in range(2):  # the second finds the harvest, and replaces the diagnosis
        diagnose_files(
            str(tmp_path / "sae"), model="bundled:all-MiniLM-L6-v2", text=str(tmp_path / "t.txt"),
            hook_point="blocks.1.hook_resid_post", samples=30, folder=tmp_path / "d",
            progress=False,
        )  # fmt: skip
    assert (tmp_path / "d-activations").is_dir()
    page = (tmp_path / "d" / "diagnosis.html").read_text()
    assert '"example.position":{' in page
    assert page.count("</script>") == page.count("<script")


def test_what_does_not_fit_is_told(saved, tmp_path):
    with pytest.raises(ConfigError, match=r"no world `absorbtion`.*absorption"):
        diagnose_files(saved, world="absorbtion", progress=False)
    with pytest.raises(DataError, match="the world `hierarchical_demo` has d_in"):
        diagnose_files(saved, world="hierarchical_demo", progress=False)


class Few(Data):
    """Activations without text or features."""

    d_in = 6

    def stream(self, batch_size, seed):
        raise NotImplementedError

    def held_out(self):
        raise NotImplementedError

    def excerpt(self, n):
        return torch.randn(min(n, 300), 6, generator=torch.Generator().manual_seed(0))


def test_a_run_diagnoses_a_few_and_says_so(tmp_path):
    x = Few().excerpt(300)
    sae = baselines.random_dictionary(x, width=8, l0=2.0, seeds=(0,))
    patients = [Patient(name=f"n {i}", sae=sae, member=0, data=Few()) for i in range(MOST_SAES + 1)]
    section, labels = diagnose_run(tmp_path, patients, title="Many")
    assert [sae.name for sae in section.saes] == [f"n {i}" for i in range(MOST_SAES)]
    assert all(len(each) == 8 for each in labels.values())
    assert f"first {MOST_SAES} of {MOST_SAES + 1} SAEs" in (tmp_path / "diagnosis.html").read_text()


def test_a_reason_stands_where_no_diagnosis_can_be_made(tmp_path):
    sae = baselines.random_dictionary(Few().excerpt(300), width=8, l0=2.0, seeds=(0,))
    with torch.no_grad():
        sae.W_dec[0, 0, 0] = torch.nan
    section, labels = diagnose_run(
        tmp_path, [Patient(name="broken", sae=sae, member=0, data=Few())], title="Broken"
    )
    assert section.kind == "prose"
    assert "not finite" in section.paragraphs[0]
    assert labels == {}
