"""What a peer computed, against what we make of its files, and the other way round."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from latent_assay.sae import SAE

TOLERANCE = 1e-5


def deviation(found: Tensor, expected: Tensor) -> float:
    """The largest, relative to the largest expected value."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def ours_as_expected(sae: SAE, place: Path) -> str | None:
    """Why our SAE, of one member, does not do what the peer noted beside its own, if so."""
    expected = load_file(place / "expected")
    sae = sae.float()
    with torch.no_grad():
        z, x_hat = sae.encode(expected["x"])[0], sae(expected["x"])[0]
    signed = expected["z"].shape[1]
    if z.shape[1] == 2 * signed:  # a latent for either sign
        z = z[:, :signed] - z[:, signed:]
    worst = max(deviation(z, expected["z"]), deviation(x_hat, expected["x_hat"]))
    assert (expected["z"] != 0).any()
    assert (expected["z"] == 0).any()
    return None if worst < TOLERANCE else f"{place.name} deviates by {worst:.1e}"
