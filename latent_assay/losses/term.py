"""Terms that add up to an objective."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
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
    per_member: ClassVar[tuple[str, ...]] = ("coefficient",)
    """Its buffers with one entry for all members, or one for each."""
    by_latent: ClassVar[dict[str, int]] = {}
    """Its buffers with an entry for each latent, and along which axis."""
    divisible: ClassVar[bool] = False
    """Whether it may run on some of the latents while other processes hold the rest: its sums over
    latents pass through `Forward.whole`, and nothing else looks at two latents at once."""

    def __init__(self, coefficient: PerMember = 1.0, ramp: Ramp | None = None):
        super().__init__()
        values = [coefficient] if isinstance(coefficient, int | float) else [*coefficient]
        if not all(math.isfinite(each) for each in values):
            raise ConfigError(
                f"the coefficient of `{self.name}` must be finite, got {coefficient}."
            )
        self.register_buffer("coefficient", torch.tensor(values, dtype=torch.float64))
        self.coefficient: Float[Tensor, " member_or_one"]
        self.ramp = ramp or Ramp()

    def check(self, members: int) -> None:
        """Raise `ConfigError` unless every value is for all members or for one of so many."""
        for name in self.per_member:
            count = getattr(self, name).shape[0]
            if count not in (1, members):
                raise ConfigError(
                    f"the term `{self.name}` has {count} values of `{name}` but the SAE has "
                    f"{members} members; give one value, or one for each member."
                )

    def settings(self) -> dict[str, Any]:
        """What was chosen when it was made, for the comparison with a checkpoint's."""
        plain = {
            name: asdict(value) if isinstance(value, Ramp) else value
            for name, value in vars(self).items()
            if isinstance(value, Ramp | int | float | str | tuple)
            and not name.startswith("_")
            and name != "training"
        }
        return plain | {name: getattr(self, name).tolist() for name in self.per_member}

    def derive(self) -> None:
        """Recompute whatever was derived from the buffers; called when they are replaced."""

    @property
    def bounds(self) -> tuple[int, ...]:
        """Prefixes of the latents that it treats apart, by their ends."""
        return ()

    def narrow(self, rows: Int[Tensor, " row"]) -> None:
        """Keep only some latents, the rest being on other processes.

        **Raises:** `ConfigError` if it is not divisible.
        """
        if not self.divisible:
            raise ConfigError(
                f"the term `{self.name}` looks at all latents together and cannot be divided over "
                "processes; train it in one process. A term of your own may be divided if its sums "
                "over latents pass through `forward.whole`; then set `divisible = True`."
            )
        for name, axis in self.by_latent.items():
            buffer = getattr(self, name)
            setattr(self, name, buffer.index_select(axis, rows.to(buffer.device)))
        self.derive()

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
        """Raise `ConfigError` unless every term fits so many members."""
        for term in self.every_term():
            term.check(members)

    def every_term(self) -> list[Term]:
        """The terms and those within them, such as the inner terms of a matryoshka loss."""
        return [module for module in self.modules() if isinstance(module, Term)]

    def settings(self) -> list[dict[str, Any]]:
        """The settings of every term, for the comparison with a checkpoint's."""
        return [{"name": term.name, **term.settings()} for term in self.every_term()]

    def derive(self) -> None:
        """Have every term recompute what it derived from its buffers."""
        for term in self.every_term():
            term.derive()

    def forward(
        self, forward: Forward, progress: Progress
    ) -> tuple[Float[Tensor, " member"], dict[str, Float[Tensor, " member"]]]:
        """The objective of each member, and its parts by name."""
        parts = {
            name: term(forward, progress) for name, term in zip(self.names, self.terms, strict=True)
        }
        return torch.stack(list(parts.values())).sum(0), parts
