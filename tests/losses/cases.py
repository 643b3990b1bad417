"""Small SAEs, batches and formulas for the tests of the losses."""

import torch
from torch import Tensor

from latent_assay.losses import Forward, Progress, Term
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU, Sparsifier

M, B, W, D = 3, 6, 8, 5


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def make(sparsifier: Sparsifier | None = None, members: int = M) -> SAE:
    return SAE(
        draw(members, W, D, seed=1),
        draw(members, W, D, seed=2),
        b_enc=draw(members, W, seed=3),
        b_dec=draw(members, D, seed=4),
        sparsifier=sparsifier or ReLU(),
    )


def at(step: int = 0, samples: int = 0, since_fired: Tensor | None = None) -> Progress:
    if since_fired is None:
        since_fired = torch.zeros(M, W, dtype=torch.int64)
    return Progress(step=step, samples=samples, since_fired=since_fired)


def value(term: Term, sae: SAE, x: Tensor, weight: Tensor | None = None, **when: object) -> Tensor:
    """Coefficient × ramp × value."""
    return term(Forward(sae, x, weight), at(**when))


def gradients(sae: SAE, total: Tensor) -> dict[str, Tensor]:
    sae.zero_grad()
    total.sum().backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in sae.named_parameters()
    }


def assert_same(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert set(one) == set(two)
    for name in one:
        atol = 1e-12 * (1.0 + float(two[name].abs().max()))
        torch.testing.assert_close(one[name], two[name], rtol=1e-11, atol=atol)
