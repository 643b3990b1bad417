"""Warming a penalty up again in a continued training, but never from below a floor."""

import math
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn

from latent_assay.errors import ConfigError
from latent_assay.losses import L0, Lp, Objective, Ramp, TargetL0, Term

_PENALTIES = (Lp, L0, TargetL0)


@dataclass(frozen=True, kw_only=True)
class FlooredRamp(Ramp):
    """A ramp that does not begin at 0.

    >>> FlooredRamp(length=10, floor=0.3).at(0), FlooredRamp(length=10, floor=0.3).at(5)
    (0.3, 0.5)
    """

    floor: float = 0.0
    """The least value of the factor."""

    def at(self, position: int) -> float:
        """The factor at a step or sample."""
        return max(super().at(position), self.floor)


def with_penalty_floor(objective: Objective, floor: float) -> Objective:
    r"""The same objective, whose sparsity penalties stay above a floor while they warm up.

    $$\lambda_t = \max(\lambda_t, \min(\lambda, \lambda_{min}))$$

    where $\lambda_t$ on the right is what the penalty's own ramp gives. A trained SAE whose penalty
    restarts at 0 unlearns its sparsity first; one whose penalty sets in at once may lose new
    latents before they learn. Concerns `Lp`, `L0` and `TargetL0`, also within matryoshka terms;
    ramps of other terms begin anew. Members whose floors are different parts of their $\lambda$
    get a term each, with coefficient 0 for the others.

    **Arguments:**
    - `objective`: left as it is.
    - `floor`: $\lambda_{min}$; infinity for no second warm-up, 0 for one from nothing.

    **Raises:** `ConfigError` for a negative floor.

    **Reference:** Chanin et al. 2025, "Feature Hedging", arXiv:2505.11756, where $\lambda_{min}$ is
    10 for Gemma-2-2b and 0.5 for Llama-3.2-1B.
    """
    if not floor >= 0:
        raise ConfigError(f"the floor of a penalty must not be negative, got {floor}.")
    objective = deepcopy(objective)
    for module in objective.modules():
        terms = getattr(module, "terms", None)
        if isinstance(terms, nn.ModuleList):
            module.terms = nn.ModuleList([each for term in terms for each in _floored(term, floor)])
    return objective


def _floored(term: nn.Module, floor: float) -> list[Term]:
    assert isinstance(term, Term)
    ramp = term.ramp
    if not isinstance(term, _PENALTIES) or not (ramp.delay or ramp.length):
        return [term]
    parts = [
        1.0 if value <= floor or floor == math.inf else floor / value
        for value in term.coefficient.tolist()
    ]
    found: list[Term] = []
    for part in sorted(set(parts)):
        own = deepcopy(term)
        chosen = torch.tensor([each == part for each in parts], device=term.coefficient.device)
        own.coefficient = torch.where(chosen, term.coefficient, 0.0)
        own.ramp = FlooredRamp(delay=ramp.delay, length=ramp.length, unit=ramp.unit, floor=part)
        found.append(own)
    return found
