"""Golden vectors: inputs, and what the SAE makes of them, kept beside its weights.

They are computed by the source format's own formula, in float64, from the tensors as they stand in
the source's file. Whoever loads the converted SAE, with whatever tool, can tell from them whether
it is still the same SAE.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from latent_assay.atomic import write_tensors
from latent_assay.errors import FormatError
from latent_assay.formats.files import safetensors
from latent_assay.formats.reading import Formula
from latent_assay.formats.stored import pick
from latent_assay.sae import SAE

GOLDEN_FILE = "golden.safetensors"
SAMPLES = 16
"""How many inputs there are, at most."""
TOLERANCE = 1e-5
"""The largest deviation, relative to the largest value of the sample."""
_BLOCK = 2**24  # numbers that are cast to float64 at a time


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Inputs with their latent activations and reconstructions."""

    x: Tensor
    """Raw activations, `[sample, d_in]`."""
    z: Tensor
    """Latent activations, `[sample, latent]`."""
    x_hat: Tensor
    """Reconstructions, `[sample, d_in]`."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How closely an SAE reproduces golden vectors."""

    samples: int
    """Number of inputs."""
    firing: float
    """Mean number of latents that fire on them."""
    latents: float
    """Largest deviation of a latent activation, relative to the largest of its sample."""
    reconstruction: float
    """Largest deviation of the reconstruction, likewise."""


def make(sae: SAE, formula: Formula) -> Golden:
    """Inputs on which some latents fire and others do not, and what the formula makes of them.

    Each input is b_dec plus a mixture of four decoder rows and some noise, at lengths from a
    sixteenth of a row's to a thousand times that. Inputs at which rounding would decide who fires
    are left out.
    """
    generator = torch.Generator().manual_seed(0)
    rows = sae.W_dec.data[0]
    count = 2 * SAMPLES
    chosen = torch.randint(sae.width, (count, 4), generator=generator)
    weights = torch.randn(count, 4, generator=generator, dtype=torch.float64).exp()
    noise = torch.randn(count, sae.d_in, generator=generator, dtype=torch.float64)
    mixture = F.normalize(torch.einsum("nk,nkd->nd", weights, rows[chosen].double()), dim=-1)
    mixture = F.normalize(mixture + 0.3 * F.normalize(noise, dim=-1), dim=-1)
    lengths = rows[:4096].double().norm(dim=-1)
    unit = float(lengths.mean()) or 1.0
    scale = unit * 4.0 ** (torch.arange(count) % 8 - 2.0).double().unsqueeze(-1)
    x = (sae.b_dec.data[0].double() + scale * mixture).to(_kept(sae)).double()
    wobble = 2e-6 * torch.randn(count, sae.d_in, generator=generator, dtype=torch.float64)
    trials = torch.cat([x, x * (1 + wobble), x * (1 - wobble)])
    z, x_hat = formula(trials)
    firing = (z != 0).view(3, count, -1)
    steady = (firing[0] == firing[1]).all(-1) & (firing[0] == firing[2]).all(-1)
    kept = torch.cat([z[:count], x_hat[:count]], dim=-1).to(_kept(sae))
    usable = steady & kept.isfinite().all(-1)
    keep = usable.nonzero().squeeze(-1)[:SAMPLES]
    if len(keep) == 0:
        raise FormatError(
            "no input has an output that rounding leaves alone, so there are no golden vectors: "
            "the SAE's numbers are of absurd size. Check where its file comes from."
        )
    return Golden(x=x[keep], z=z[keep], x_hat=x_hat[keep])


def check(golden: Golden, sae: SAE, what: str) -> Agreement:
    """How closely an SAE of one member reproduces golden vectors.

    **Arguments:**
    - `what`: the SAE, for messages.

    **Raises:** `FormatError` if it does not.
    """
    z, x_hat = outputs(sae, golden.x)
    latents = _deviation(z, golden.z.double())
    reconstruction = _deviation(x_hat, golden.x_hat.double())
    if not (latents <= TOLERANCE and reconstruction <= TOLERANCE):
        raise FormatError(
            f"{what} does not reproduce its golden vectors: latent activations deviate by "
            f"{latents:.1e} and reconstructions by {reconstruction:.1e}, expected at most "
            f"{TOLERANCE:.0e}. Its weights or configuration were changed or damaged. Convert it "
            f"anew from its source, or remove {GOLDEN_FILE} if the change was meant."
        )
    return Agreement(
        samples=len(golden.x),
        firing=float((golden.z != 0).sum(-1).double().mean()),
        latents=latents,
        reconstruction=reconstruction,
    )


def write(golden: Golden, place: Path, sae: SAE) -> None:
    """Write golden vectors beside an SAE's weights."""
    tensors = {"x": golden.x, "z": golden.z, "x_hat": golden.x_hat}
    write_tensors(
        place / GOLDEN_FILE, {name: tensor.to(_kept(sae)) for name, tensor in tensors.items()}
    )


def read(place: Path, sae: SAE) -> Golden:
    """The golden vectors beside an SAE's weights.

    **Raises:** `FormatError` if they are damaged or belong to an SAE of another size.
    """
    path = place / GOLDEN_FILE
    stored = safetensors(path)
    samples = stored["x"].shape[0] if "x" in stored and stored["x"].shape else 0
    if not 0 < samples <= 1024:
        raise FormatError(
            f"'{path}' must hold between 1 and 1024 inputs, found {samples}; the file is damaged. "
            "Convert the SAE anew, or remove the file."
        )
    shapes = {
        "x": (samples, sae.d_in),
        "z": (samples, sae.width),
        "x_hat": (samples, sae.d_in),
    }
    because = f"the SAE beside it has d_in {sae.d_in} and width {sae.width}"
    return Golden(**pick(stored, shapes, path, because=because))


@torch.no_grad()
def outputs(sae: SAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Latent activations and reconstructions of an SAE of one member, in float64 throughout."""
    x = x.double()
    centred = x - sae.b_dec[0].double() if sae.subtract_b_dec else x
    pre = product(centred, sae.W_enc[0].T) + sae.b_enc[0].double()
    z = sae.sparsifier(pre.unsqueeze(0))[0]
    return z, product(z, sae.W_dec[0]) + sae.b_dec[0].double()


def product(x: Tensor, W: Tensor) -> Tensor:
    """$x W$ in float64, block by block, so that a large W is never held in float64 as a whole."""
    step = max(1, _BLOCK // max(1, W.shape[0]))
    return torch.cat(
        [x @ W[:, start : start + step].double() for start in range(0, W.shape[1], step)], dim=-1
    )


def _deviation(found: Tensor, expected: Tensor) -> float:
    scale = expected.abs().amax(-1).clamp_min(torch.finfo(torch.float32).tiny)
    return float(((found - expected).abs().amax(-1) / scale).max().nan_to_num(nan=torch.inf))


def _kept(sae: SAE) -> torch.dtype:
    return torch.float64 if sae.W_enc.dtype == torch.float64 else torch.float32
