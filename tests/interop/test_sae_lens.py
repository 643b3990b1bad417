"""SAELens loads what we save, and we load what SAELens saves."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from latent_assay import formats
from latent_assay.errors import FormatError
from latent_assay.sae import SAE
from latent_assay.sparsifiers import BatchTopK, Identity, JumpReLU, ReLU, TopK
from latent_assay.training import fit

from ..laws import recipes
from .agreement import TOLERANCE, deviation, ours_as_expected
from .environments import run

pytestmark = pytest.mark.interop

TRAINED = {
    "standard",
    "gated",
    "jumprelu",
    "topk",
    "abstopk",
    "batchtopk",
    "matryoshka_batchtopk",
    "matching_pursuit",
}
REFUSED = {
    "matching_pursuit": "cannot be represented: its encoder is a loop",
    "temporal": "cannot be represented: what it makes of a token depends on the tokens before",
    "transcoder": "cannot be represented: a transcoder reads one place",
    "skip_transcoder": "cannot be represented: a transcoder reads one place",
    "jumprelu_transcoder": "cannot be represented: a transcoder reads one place",
    "jumprelu_skip_transcoder": "cannot be represented: a transcoder reads one place",
}
D, W = 8, 12
METADATA = {"model_name": "gpt2", "hook_name": "blocks.3.hook_resid_post", "context_size": 64}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sae_lens")
    run("sae-lens", "make", folder)
    return folder


def places(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if (path / "cfg.json").exists())


def architecture(place: Path) -> str:
    """As its maker named the folder; the file of a trained BatchTopK says jumprelu."""
    return place.name.split("-")[0]


def test_everything_that_sae_lens_knows_is_tried(made):
    found = {architecture(place) for place in places(made)}
    assert found == TRAINED | set(REFUSED)
    assert len(places(made)) > 60


def test_we_load_what_sae_lens_saves(made):
    wrong = []
    tried = 0
    for place in places(made):
        if architecture(place) not in REFUSED:
            tried += 1
            wrong.append(ours_as_expected(formats.load(place), place))
    assert tried > 50
    assert set(wrong) == {None}, [each for each in wrong if each]


def test_what_cannot_be_represented_is_refused_with_a_reason(made):
    for place in places(made):
        if architecture(place) in REFUSED:
            with pytest.raises(FormatError, match=REFUSED[architecture(place)]):
                formats.load(place)


def test_provenance_is_kept(made):
    (reading,) = formats.read(made / "gated")
    assert (reading.model, reading.hook_point) == ("gpt2", "blocks.3.hook_resid_post")
    assert reading.metadata["sae_lens_version"].startswith("6.")
    assert reading.metadata["training_architecture"] == "gated"
    (reading,) = formats.read(made / "standard-expected_average_only_in-True")
    assert reading.normalisation.startswith("inputs × ")


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained(members: int) -> BatchTopK:
    sparsifier = BatchTopK(2, members)
    sparsifier(draw(members, 8, W, seed=9))
    return sparsifier


KINDS = {  # every sparsifier that training knows
    "relu": lambda members: ReLU(),
    "identity": lambda members: Identity(),
    "jumprelu": lambda members: JumpReLU(draw(members, W, seed=5).abs()),
    "topk": lambda members: TopK(3, members),
    "batchtopk": trained,
}


def ours(kind: str, members: int = 1, tied: bool = False, **changes: object) -> SAE:
    return SAE(
        draw(members, W, D, seed=1),
        None if tied else draw(members, W, D, seed=2),
        b_enc=draw(members, W, seed=3),
        b_dec=draw(members, D, seed=4),
        sparsifier=KINDS[kind](members),
        **changes,
    )


def test_sae_lens_loads_what_we_save(made, tmp_path):
    for kind in KINDS:
        formats.save(ours(kind), tmp_path / kind, METADATA)
        formats.save(ours(kind, tied=True), tmp_path / f"{kind}-tied", METADATA)
        formats.save(
            ours(kind, subtract_b_dec=False, frozen=("b_enc",)), tmp_path / f"{kind}-out", METADATA
        )
        formats.save(ours(kind, 2, widths=(W, 5)), tmp_path / f"{kind}-two", METADATA)
        formats.save(ours(kind).bfloat16(), tmp_path / f"{kind}-bfloat16", METADATA)
        formats.save(ours(kind).double(), tmp_path / f"{kind}-float64", METADATA)
    for name in recipes.NAMES:
        sae, objective, config = recipes.ensemble(name, torch.float32)
        brief = replace(config, steps=20, lr_warm_up_steps=0)
        fit(sae, objective, recipes.batches(torch.float32), brief, progress=False)
        formats.save(sae, tmp_path / "recipes" / name, METADATA)
    # and what we convert
    for place in places(made):
        if architecture(place) not in REFUSED:
            formats.convert(place, tmp_path / "converted" / place.name)
    written = sorted(path.parent for path in tmp_path.rglob("cfg.json"))
    assert len(written) > 100
    for place in written:
        x = 3 * draw(64, formats.load(place).d_in, seed=6)
        save_file({"x": x}, place / "x")
    run("sae-lens", "use", tmp_path)
    wrong = {}
    for place in written:
        sae = formats.load(place).float()
        x, answer = load_file(place / "x")["x"], load_file(place / "answer")
        with torch.no_grad():
            z, x_hat = sae.encode(x)[0], sae(x)[0]
        worst = max(deviation(answer["z"], z), deviation(answer["x_hat"], x_hat))
        if not worst < TOLERANCE:
            wrong[str(place.relative_to(tmp_path))] = worst
    assert not wrong
    seen = json.loads((tmp_path / "seen.json").read_text())
    about = {"hook_name": METADATA["hook_name"], "model_name": METADATA["model_name"]}
    assert {name: each for name, each in seen.items() if each != about} == {
        name: {"hook_name": None, "model_name": None}  # its maker gave none
        for name in seen
        if "expected_average" in name or "whitening" in name
    }


def test_gemma_scope_as_sae_lens_reads_it(tmp_path):
    place = tmp_path / "gemma-scope-2b-pt-res" / "layer_20" / "width_16k" / "average_l0_71"
    place.mkdir(parents=True)
    np.savez(
        place / "params.npz",
        W_enc=draw(D, W, seed=1).numpy(),
        W_dec=draw(W, D, seed=2).numpy(),
        b_enc=draw(W, seed=3).numpy(),
        b_dec=draw(D, seed=4).numpy(),
        threshold=draw(W, seed=5).abs().numpy(),
    )
    run("sae-lens", "gemma", place)
    (reading,) = formats.read(place)
    assert ours_as_expected(reading.sae, place) is None
    expected = json.loads((place / "about.json").read_text())
    assert reading.hook_point == expected["hook_name"]
    assert reading.model == f"google/{expected['model_name']}"
