"""Null baselines: SAEs that have learned nothing, and in a world the one that knows everything.

A number means little until it stands beside what chance reaches at the same sparsity. Every
baseline is an SAE and goes through the same measurement as a trained one.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from latent_assay.errors import DataError, WorldError
from latent_assay.kernels import batch_threshold
from latent_assay.sae import SAE
from latent_assay.sparsifiers import Identity, JumpReLU
from latent_assay.worlds import World


@torch.no_grad()
def random_dictionary(
    x: Float[Tensor, "sample d_in"], *, width: int, l0: float, seeds: Sequence[int] = (0,)
) -> SAE:
    """Random directions that fire as often as a trained SAE.

    Encoder and decoder rows are the same random unit vectors, `b_dec` is the mean of `x`, one
    threshold brings L0 to the value asked for, and one factor on the decoder minimises the squared
    error, so that the baseline is the best of its kind.

    **Arguments:**
    - `x`: activations to adjust mean, threshold and factor on.
    - `width`, `l0`: of the SAE to compare with.
    - `seeds`: one for each member.
    """
    rows = torch.stack(
        [
            torch.randn(width, x.shape[1], generator=torch.Generator().manual_seed(seed))
            for seed in seeds
        ]
    ).to(x)
    return _fitted_to(x, F.normalize(rows, dim=-1), l0)


@torch.no_grad()
def permuted_decoder(sae: SAE, *, seeds: Sequence[int] = (0,)) -> SAE:
    """A trained SAE whose decoder rows have been dealt out to other latents.

    Firing is untouched; whatever the match between a latent's firing and its direction was worth is
    lost. Every row of length zero (padding) keeps its place.

    **Arguments:**
    - `sae`: its first member is taken, in exported form.
    - `seeds`: one permutation for each.
    """
    first = sae.take(0).exported()
    decoders = []
    for seed in seeds:
        order = torch.randperm(first.width, generator=torch.Generator().manual_seed(seed))
        decoders.append(first.W_dec[0, order.to(first.W_dec.device)])
    members = len(decoders)
    return SAE(
        first.W_enc.repeat(members, 1, 1),
        torch.stack(decoders),
        b_enc=first.b_enc.repeat(members, 1),
        b_dec=first.b_dec.repeat(members, 1),
        sparsifier=first.sparsifier.take([0] * members, first.width),
        subtract_b_dec=first.subtract_b_dec,
    ).eval()


@torch.no_grad()
def leading_components(x: Float[Tensor, "sample d_in"], *, k: int) -> SAE:
    """The k principal components with the largest variance, all of them always on: L0 = k.

    What a linear method reaches with k numbers per sample.

    **Arguments:**
    - `x`: activations.
    - `k`: number of components, at most d_in.
    """
    mean, components = _components(x)
    k = max(1, min(k, x.shape[1]))
    return SAE(
        components[None, :k],
        b_dec=mean[None],
        sparsifier=Identity(),
    ).eval()


@torch.no_grad()
def chosen_components(x: Float[Tensor, "sample d_in"], *, l0: float) -> SAE:
    """All principal components and their opposites, of which those that matter fire.

    One threshold for all brings L0 to the value asked for: per sample the best few numbers that
    PCA can offer.

    **Arguments:**
    - `x`: activations.
    - `l0`: mean number of firing components per sample.
    """
    _, components = _components(x)
    return _fitted_to(x, torch.cat([components, -components])[None], l0)


@torch.no_grad()
def oracle(world: World) -> SAE:
    """The SAE that knows a world's true features.

    Decoder rows are the features. Where they are linearly independent, the encoder is their dual
    basis, which reads every magnitude exactly, and the threshold only removes rounding errors; in
    superposition it is the features themselves, with a threshold at half the median magnitude, as
    no linear reading is exact there.

    **Arguments:**
    - `world`: its magnitudes should be positive; an SAE cannot fire with a negative one.

    **Raises:** `WorldError` if a feature has length zero.
    """
    features = world.features
    lengths = features.norm(dim=-1)
    if not bool((lengths > 0).all()):
        raise WorldError(
            f"feature {int(lengths.argmin())} has length zero, so it has no direction to know; "
            "an oracle "
            "needs features of positive length."
        )
    n, d_in = features.shape
    bias = world.bias if world.bias is not None else features.new_zeros(d_in)
    independent = n <= d_in and int(torch.linalg.matrix_rank(features.double())) == n
    if independent:
        encoder = torch.linalg.pinv(features.double()).T.to(features)
        threshold = torch.full((n,), 1e-4 * _typical_magnitude(world))
    else:
        encoder = features / lengths.square().unsqueeze(-1)
        threshold = torch.full((n,), 0.5 * _typical_magnitude(world))
    return SAE(
        encoder[None],
        features[None].clone(),
        b_dec=bias[None].clone(),
        sparsifier=JumpReLU(threshold.to(features)[None]),
    ).eval()


def _typical_magnitude(world: World) -> float:
    sample = world.sample(2_000, torch.Generator(device=world.device).manual_seed(0))
    firing = sample.magnitudes[sample.firing]
    return float(firing.median()) if firing.numel() else 1.0


def _fitted_to(
    x: Float[Tensor, "sample d_in"], rows: Float[Tensor, "member latent d_in"], l0: float
) -> SAE:
    """Unit rows as encoder and decoder, with mean, threshold and one factor taken from data."""
    if x.dim() != 2 or x.shape[0] < 2:
        raise DataError(
            f"a baseline needs at least two activations [sample, d_in], got {list(x.shape)}."
        )
    mean = x.mean(0)
    centred = x - mean
    members = []
    for each in rows:
        pre = (centred @ each.T)[None]
        threshold = batch_threshold(pre, torch.tensor([l0], dtype=torch.float64))
        z = torch.where(pre[0] > threshold, pre[0].clamp_min(0), 0.0)
        x_hat = z @ each
        factor = (centred * x_hat).sum() / x_hat.square().sum().clamp_min(1e-30)
        members.append((factor * each, threshold.expand(each.shape[0])))
    count = len(members)
    return SAE(
        rows.clone(),
        torch.stack([decoder for decoder, _ in members]),
        b_dec=mean.expand(count, -1).clone(),
        sparsifier=JumpReLU(torch.stack([threshold for _, threshold in members]).to(x)),
    ).eval()


def _components(
    x: Float[Tensor, "sample d_in"],
) -> tuple[Float[Tensor, " d_in"], Float[Tensor, "component d_in"]]:
    if x.dim() != 2 or x.shape[0] < 2:
        raise DataError(
            "principal components need at least two activations [sample, d_in], got "
            f"{list(x.shape)}."
        )
    mean = x.double().mean(0)
    centred = x.double() - mean
    _, vectors = torch.linalg.eigh(centred.T @ centred / x.shape[0])
    return mean.to(x), vectors.T.flip(0).to(x).contiguous()
