"""Training through the Triton kernels ends where the plain formulas end."""

import dataclasses

import pytest
import torch

from latent_assay import recipes
from latent_assay.kernels import force_path
from latent_assay.recipes import Recipe
from latent_assay.training import fit

D, W, B, STEPS = 12, 20, 16, 6


def batches(device: torch.device):
    generator = torch.Generator().manual_seed(0)
    while True:
        yield torch.randn(B, D, generator=generator).to(device)


def recipe(name: str, **changes) -> Recipe:
    common = {"d_in": D, "width": W, "seeds": (0, 1), "lr": (1e-2, 3e-3)}
    own = {
        "topk": {"k": 3, "dead_after": 40},
        "batchtopk": {"k": 3},
        "matryoshka_batchtopk": {"k": 3, "levels": (3, 8, W)},
        "relu_l1": {"l1": 1e-2},
        "jumprelu": {"target_l0": 4.0},
    }[name]
    return recipes.RECIPES[name](**(common | own | changes))


def trained(made: Recipe, path: str, device: torch.device, **changes):
    settings = {"steps": STEPS, "log_every": 5, "lr_warm_up_steps": 3, "clip": 0.5}
    config = dataclasses.replace(made.config, **(settings | changes))
    made.sae.to(device)
    with force_path(path):
        history = fit(made.sae, made.objective, batches(device), config, progress=False)
    return made.sae, history


@pytest.mark.parametrize(
    "name", ["topk", "batchtopk", "matryoshka_batchtopk", "relu_l1", "jumprelu"]
)
def test_equals_the_plain_formulas(name, device):
    sae, history = trained(recipe(name), "triton", device)
    plain, expected = trained(recipe(name), "dense", device)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(sae.state_dict()[key], value, rtol=2e-3, atol=2e-4)
    for key in expected.names:
        torch.testing.assert_close(
            torch.as_tensor(history[key]), torch.as_tensor(expected[key]), rtol=2e-3, atol=1e-4
        )


def test_a_member_in_company_equals_the_member_alone(device):
    company, _ = trained(recipe("batchtopk"), "triton", device)
    for member, rate in ((0, 1e-2), (1, 3e-3)):
        alone, _ = trained(recipe("batchtopk", seeds=member, lr=rate), "triton", device)
        mine, own = company.take(member).state_dict(), alone.state_dict()
        for key, value in own.items():
            torch.testing.assert_close(mine[key], value, rtol=1e-5, atol=1e-6)


def test_a_member_that_diverges_stands_still(device):
    """Refused members keep their weights, the other goes on."""
    made = recipe("relu_l1", lr=(1e-2, 1e-2))
    with torch.no_grad():
        made.sae.W_enc[0, 0, 0] = float("inf")
    before = made.sae.W_dec.detach().clone()
    with pytest.raises(Exception, match="was not finite"):
        trained(made, "triton", device, log_every=STEPS)
    after = made.sae.W_dec.detach().cpu()
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])
