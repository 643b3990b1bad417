"""Recipes: named architectures with their published defaults.

A recipe is a function that returns an SAE, an objective and a training config, to be handed to
`fit`. Its arguments name what a user varies. Those typed `PerMember` take one value, or one for
each member; `seeds` likewise, so that six seeds make six members:

>>> sae, objective, config = topk(d_in=16, width=64, k=4, seeds=range(6))
>>> sae.members, objective.names
(6, ['squared_error', 'auxk'])

A new paper is a new function here (or in your own code), never a new flag elsewhere.
"""

from latent_assay.recipes.jump_relu import jumprelu
from latent_assay.recipes.l1 import relu_l1, tied, tied_orthogonal
from latent_assay.recipes.nested import (
    Beta,
    balance_matryoshka,
    matryoshka,
    matryoshka_batchtopk,
)
from latent_assay.recipes.recipe import Recipe
from latent_assay.recipes.reweighting import reweighting
from latent_assay.recipes.top_k import batchtopk, topk
from latent_assay.recipes.without_biases import linear, wsae

__all__ = [
    "RECIPES",
    "Beta",
    "Recipe",
    "balance_matryoshka",
    "batchtopk",
    "jumprelu",
    "linear",
    "matryoshka",
    "matryoshka_batchtopk",
    "relu_l1",
    "reweighting",
    "tied",
    "tied_orthogonal",
    "topk",
    "wsae",
]

RECIPES = {
    recipe.__name__: recipe
    for recipe in (
        balance_matryoshka,
        batchtopk,
        jumprelu,
        linear,
        matryoshka,
        matryoshka_batchtopk,
        relu_l1,
        tied,
        tied_orthogonal,
        topk,
        wsae,
    )
}
"""Every recipe by name."""
