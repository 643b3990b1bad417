"""The two features of the proof, and their losses enumerated over every state."""

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from latent_assay.theory import PairStates, absorption

DEGREES = torch.linspace(0, 1, 11, dtype=torch.float64)
"""Degrees of absorption δ at which closed forms are held against enumeration."""
STATES = PairStates(p11=0.05, p10=0.2)
"""Parent and child of the toy model: the child fires only with the parent."""
IMPERFECT = PairStates(p11=0.0475, p10=0.2025, p01=0.0025)
"""The same when 5% of the child's firings are without the parent."""
STEP = 1e-6
"""Of central differences."""


@torch.no_grad()
def enumerated_error(
    delta: Float64[Tensor, " delta"],
    states: PairStates,
    features: Float64[Tensor, "2 d_in"] | None = None,
) -> Float64[Tensor, " delta"]:
    """Expected squared error of real SAEs that absorb to the degrees δ, over every state."""
    world = states.enumeration(features)
    error = (absorption.absorbed_sae(delta, features)(world.x) - world.x).square().sum(-1)
    return error @ world.probability


@torch.no_grad()
def enumerated_l1(
    delta: Float64[Tensor, " delta"], states: PairStates, *, weighted: bool = False
) -> Float64[Tensor, " delta"]:
    """Their expected L1 penalty, plain or weighted by decoder norms."""
    world = states.enumeration()
    sae = absorption.absorbed_sae(delta)
    z = sae.encode(world.x)
    if weighted:
        z = z * sae.W_dec.norm(dim=-1).unsqueeze(1)
    return z.abs().sum(-1) @ world.probability


def slope(
    penalty: Callable[[Tensor], Tensor], delta: Float64[Tensor, " delta"]
) -> Float64[Tensor, " delta"]:
    """Derivative of a penalty in δ, by central differences."""
    return (penalty(delta + STEP) - penalty(delta - STEP)) / (2 * STEP)
