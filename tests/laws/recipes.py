"""Every recipe at a small size, for the laws that all of them obey."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from latent_assay import recipes
from latent_assay.recipes import RECIPES, Recipe

D_IN, WIDTH, BATCH = 6, 8, 32

# What each recipe needs beyond sizes and seeds, and a second value for the members that differ.
VARIED: dict[str, dict[str, tuple]] = {
    "linear": {"lr": (1e-2, 3e-3)},
    "relu_l1": {"lr": (1e-2, 3e-3), "l1": (1e-2, 1e-1)},
    "tied": {"lr": (1e-2, 3e-3), "l1": (1e-2, 1e-1)},
    "tied_orthogonal": {"lr": (1e-2, 3e-3), "orthogonality": (1.0, 10.0)},
    "jumprelu": {"lr": (1e-2, 3e-3), "l0": (1e-2, 1e-1)},
    "topk": {"lr": (1e-2, 3e-3), "k": (3, 2)},
    "batchtopk": {"lr": (1e-2, 3e-3), "k": (2.5, 1.5)},
    "matryoshka": {"lr": (1e-2, 3e-3), "beta": ((1.0, 1.0), (0.25, 1.0))},
    "matryoshka_batchtopk": {"lr": (1e-2, 3e-3), "beta": ((1.0, 1.0), (0.0, 1.0))},
    "balance_matryoshka": {"lr": (1e-2, 3e-3), "multiplier": (0.75, 0.25)},
    "wsae": {"lr": (1e-2, 3e-3), "k": (3, 2)},
}
FIXED: dict[str, dict] = {
    "tied_orthogonal": {"delay_samples": 20 * BATCH, "warm_up_samples": 50 * BATCH, "window": 5},
    "jumprelu": {"bandwidth": 0.2, "threshold": 0.05, "sparsity_warm_up_steps": 20},
    "topk": {"dead_after": 200, "auxk": 0.5},
    "batchtopk": {"dead_after": 200, "auxk": 0.5},
    "matryoshka": {"levels": (3, WIDTH), "l1": 1e-2},
    "matryoshka_batchtopk": {"levels": (3, WIDTH), "k": 2, "dead_after": 200},
    "balance_matryoshka": {"levels": (3, WIDTH), "k": 2, "dead_after": 200},
    "wsae": {"gamma": torch.linspace(0.5, 1.5, D_IN, dtype=torch.float64)},
}
NAMES = sorted(RECIPES)


def ensemble(name: str, dtype: torch.dtype = torch.float64, **changes: object) -> Recipe:
    """Two members that differ in seed, learning rate and whatever the recipe lets differ."""
    arguments = {"seeds": (0, 1), **VARIED[name], **FIXED.get(name, {}), **changes}
    return _call(RECIPES[name], dtype, arguments)


def alone(name: str, member: int, dtype: torch.dtype = torch.float64, **changes: object) -> Recipe:
    """One of those members by itself."""
    arguments = {"seeds": (member,), **FIXED.get(name, {}), **changes}
    arguments |= {key: (values[member],) for key, values in VARIED[name].items()}
    return _call(RECIPES[name], dtype, arguments)


def _call(recipe: Callable[..., Recipe], dtype: torch.dtype, arguments: dict) -> Recipe:
    return recipe(d_in=D_IN, width=arguments.pop("width", WIDTH), dtype=dtype, **arguments)


def batches(dtype: torch.dtype = torch.float64, seed: int = 0) -> Iterator[Tensor]:
    """An endless stream of sparse mixtures of ten directions."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(10, D_IN, generator=generator, dtype=dtype)
    while True:
        firing = torch.rand(BATCH, 10, generator=generator, dtype=dtype) < 0.2
        yield (firing * torch.rand(BATCH, 10, generator=generator, dtype=dtype)) @ directions


assert set(VARIED) == set(recipes.RECIPES)
