"""Terms that add up to an objective."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latent_assay.errors import ConfigError
from latent_assay.losses.forward import Forward, Progress
from latent_assay.sparsifiers import PerMember


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """A factor that is 0 during a delay, then rises in a straight line to 1.

    >>> Ramp(delay=10, length=10).at(15)
    0.5
    """

    delay: int = 0
    """How long the factor stays 0."""
    length: int = 0
    """How long it takes from 0 to 1."""
    unit: Literal["steps", "samples"] = "steps"
    """What `delay` and `length` count."""

    def __post_init__(self) -> None:
        if self.delay < 0 or self.length < 0:
            raise ConfigError(f"delay and length must not be negative, got {self}.")

    def at(self, position: int) -> float:
        """The factor at a step or sample."""
        if position < self.delay:
            return 0.0
        return min(1.0, (position - self.delay) / self.length) if self.length else 1.0

    def now(self, progress: Progress) -> float:
        """The factor at this point of training."""
        return self.at(progress.step if self.unit == "steps" else progress.samples)


class Term(nn.Module, ABC):
    """One term of an objective: coefficient × ramp × value, for each member.

    **Arguments:**
    - `coefficient`: one number, or one for each member.
    - `ramp`: warm-up of the coefficient.
    """

    name: ClassVar[str]
    """Its word in logs."""

    def __init__(self, coefficient: PerMember = 1.0, ramp: Ramp | None = None):
        super().__init__()
        values = [coefficient] if isinstance(coefficient, int | float) else [*coefficient]
        self.register_buffer("coefficient", torch.tensor(values, dtype=torch.float64))
        self.coefficient: Float[Tensor, " member_or_one"]
        self.ramp = ramp or Ramp()

    @abstractmethod
    def value(self, forward: Forward, progress: Progress) -> Float[Tensor, " member"]:
        """The value before coefficient and ramp."""

    def forward(self, forward: Forward, progress: Progress) -> Float[Tensor, " member"]:
        """Coefficient × ramp × value."""
        value = self.value(forward, progress)
        return (self.ramp.now(progress) * self.coefficient).to(value.dtype) * value


class Objective(nn.Module):
    """A sum of terms.

    >>> from latent_assay.losses import Lp, SquaredError
    >>> Objective([SquaredError(), Lp(1e-3)]).names
    ['squared_error', 'lp']
    """

    def __init__(self, terms: Sequence[Term]):
        super().__init__()
        if not terms:
            raise ConfigError("an objective needs at least one term, got none.")
        self.terms = nn.ModuleList(terms)

    @property
    def names(self) -> list[str]:
        """The terms' words in logs, numbered where one occurs twice."""
        words = [str(term.name) for term in self.terms]
        return [
            word if words.count(word) == 1 else f"{word}_{words[:place].count(word) + 1}"
            for place, word in enumerate(words)
        ]

    def check(self, members: int) -> None:
        """Raise `ConfigError` unless every coefficient is for one or for `members` members."""
        for module in self.modules():
            if isinstance(module, Term) and module.coefficient.shape[0] not in (1, members):
                raise ConfigError(
                    f"the term `{module.name}` has {module.coefficient.shape[0]} coefficients but the "
                    f"SAE has {members} members; give one value, or one for each member."
                )

    def forward(
        self, forward: Forward, progress: Progress
    ) -> tuple[Float[Tensor, " member"], dict[str, Float[Tensor, " member"]]]:
        """The objective of each member, and its parts by name."""
        parts = {
            name: term(forward, progress) for name, term in zip(self.names, self.terms, strict=True)
        }
        return torch.stack(list(parts.values())).sum(0), parts
