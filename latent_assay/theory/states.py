"""Two features and the probabilities of their four states."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.errors import WorldError
from latent_assay.worlds import Enumeration

Number = float | int
"""A number; the shape checker, unlike mypy, does not take an int for a float."""

# Probabilities that were meant to sum to 1, or to be 0, may miss it by rounding.
ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class PairStates:
    r"""How often two features fire, together and alone.

    | | 1 fires | 1 silent |
    |---|---|---|
    | 2 fires | $p_{11}$ | $p_{01}$ |
    | 2 silent | $p_{10}$ | $p_{00}$ |

    With $p_{01} = 0$ feature 2 fires only when feature 1 does: 1 is the parent, 2 the child.

    **Raises:** `WorldError` if a probability is negative or they sum to more than 1.

    >>> states = PairStates(p11=0.05, p10=0.2)
    >>> states.p00, states.given, states.otherwise
    (0.75, 0.2, 0.0)
    """

    p11: Number
    """Probability that both fire."""
    p10: Number
    """Probability that only the first fires."""
    p01: Number = 0.0
    """Probability that only the second fires."""

    def __post_init__(self) -> None:
        values = {"p11": self.p11, "p10": self.p10, "p01": self.p01}
        for name, value in values.items():
            if not (math.isfinite(value) and value >= 0):
                raise WorldError(
                    f"{name} is {value}, but a probability is finite and not negative. "
                    "Check the formula that made it."
                )
            object.__setattr__(self, name, float(value))
        if sum(values.values()) > 1 + ROUNDING:
            raise WorldError(
                f"p11 + p10 + p01 is {sum(values.values()):.6g}, but at most 1 is left for states "
                "in which something fires. Lower them."
            )

    @classmethod
    def from_conditionals(
        cls, first: Number, given: Number, otherwise: Number = 0.0
    ) -> "PairStates":
        r"""States from $P(1)$, $P(2 \mid 1)$ and $P(2 \mid \neg 1)$.

        **Arguments:**
        - `first`: how often feature 1 fires.
        - `given`, `otherwise`: how often feature 2 fires when feature 1 does, and when not.

        **Raises:** `WorldError` if one of them is no probability.
        """
        for name, value in {"first": first, "given": given, "otherwise": otherwise}.items():
            if not 0 <= value <= 1:
                raise WorldError(
                    f"`{name}` is {value}, but a probability lies between 0 and 1. "
                    "Check the formula that made it."
                )
        return cls(p11=first * given, p10=first * (1 - given), p01=(1 - first) * otherwise)

    @classmethod
    def from_correlation(cls, first: Number, second: Number, correlation: Number) -> "PairStates":
        r"""States from both rates and the correlation of the two binary variables.

        $$p_{11} = p_1 p_2 + \rho \sqrt{p_1 (1 - p_1)\, p_2 (1 - p_2)}$$

        **Arguments:**
        - `first`, `second`: how often each feature fires.
        - `correlation`: $\rho$.

        **Raises:** `WorldError` if no such pair exists, naming the correlations that do.
        """
        for name, value in {"first": first, "second": second}.items():
            if not 0 < value < 1:
                raise WorldError(
                    f"`{name}` is {value}, but a correlation is defined only for rates between "
                    "0 and 1, both excluded."
                )
        spread = math.sqrt(first * (1 - first) * second * (1 - second))
        lowest = (max(0.0, first + second - 1) - first * second) / spread
        highest = (min(first, second) - first * second) / spread
        if not lowest - ROUNDING <= correlation <= highest + ROUNDING:
            raise WorldError(
                f"features with rates {first:g} and {second:g} cannot have correlation "
                f"{correlation:g}; choose one from {lowest:.4g} to {highest:.4g}."
            )
        both = first * second + correlation * spread
        both = min(max(both, 0.0, first + second - 1), first, second)
        return cls(p11=both, p10=first - both, p01=second - both)

    @property
    def p00(self) -> float:
        """Probability that neither fires."""
        return max(0.0, 1 - (self.p11 + self.p10 + self.p01))

    @property
    def first(self) -> float:
        """How often feature 1 fires."""
        return self.p11 + self.p10

    @property
    def second(self) -> float:
        """How often feature 2 fires."""
        return self.p11 + self.p01

    @property
    def given(self) -> float:
        r"""$P(2 \mid 1)$.

        **Raises:** `WorldError` if feature 1 never fires.
        """
        if self.first == 0:
            raise WorldError(
                "feature 1 never fires, so nothing can be conditioned on it; give it a positive "
                "p11 or p10."
            )
        return self.p11 / self.first

    @property
    def otherwise(self) -> float:
        r"""$P(2 \mid \neg 1)$.

        **Raises:** `WorldError` if feature 1 always fires.
        """
        silent = self.p01 + self.p00
        if silent <= ROUNDING:
            raise WorldError(
                "feature 1 always fires, so nothing can be conditioned on its silence; lower p11 "
                "or p10."
            )
        return self.p01 / silent

    @property
    def correlation(self) -> float:
        """Correlation of the two binary variables; NaN if one of them never changes."""
        spread = math.sqrt(self.first * (1 - self.first) * self.second * (1 - self.second))
        covariance = self.p11 - self.first * self.second
        return covariance / spread if spread > 0 else math.nan

    def enumeration(self, features: Float[Tensor, "2 d_in"] | None = None) -> Enumeration:
        """The states of positive probability as a finite world, in float64.

        **Arguments:**
        - `features`: the two directions; None for the axes of the plane.
        """
        rows = torch.eye(2) if features is None else features
        states = {(0, 0): self.p00, (0, 1): self.p01, (1, 0): self.p10, (1, 1): self.p11}
        possible = {state: p for state, p in states.items() if p > 0}
        magnitudes = torch.tensor(list(possible), dtype=torch.float64)
        return Enumeration(
            firing=magnitudes > 0,
            magnitudes=magnitudes,
            x=magnitudes @ rows.double(),
            probability=torch.tensor(list(possible.values()), dtype=torch.float64),
        )
