"""What a run asks of its activations, wherever they come from."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from latent_assay.activations import ActivationStore, LanguageModel, Plan
from latent_assay.batch import Batch
from latent_assay.distributed import Ranks
from latent_assay.runs.config import RunConfig
from latent_assay.sae import SAE
from latent_assay.worlds import Sample

_SCORED_ON = 50_000


class Data(ABC):
    """Activations, ready to train and measure on."""

    d_in: int
    """Their length."""
    scale: float = 1.0
    """What they are multiplied with in training."""

    @abstractmethod
    def stream(self, batch_size: int, seed: int) -> Iterator[Batch]:
        """An endless, resumable stream of scaled batches for training."""

    @abstractmethod
    def held_out(self) -> Iterable[Tensor | Sample]:
        """Raw activations that training has not seen."""

    @abstractmethod
    def excerpt(self, n: int) -> Float[Tensor, "sample d_in"]:
        """Some raw activations from training, to adjust baselines on."""

    def scored(self, name: str) -> Float[Tensor, " d_in"] | None:
        """Scores of the input dimensions by their name; None for one that is not known here."""
        return self.excerpt(_SCORED_ON).var(0) if name == "variance" else None

    def sections(self, saes: Sequence[tuple[str, SAE]]) -> Sequence[Any]:
        """What only this source can say of SAEs, for the report."""
        return ()

    @property
    def features(self) -> Float[Tensor, "feature d_in"] | None:
        """The true features, where they are known."""
        return None

    def oracle(self) -> SAE | None:
        """The SAE that knows the true features, where there is one."""
        return None

    def provenance(self) -> dict[str, Any]:
        """Where the activations come from."""
        return {}

    def seen(self, n: int) -> Float[Tensor, "sample d_in"] | None:
        """Some raw activations that training has seen; None where measuring on them would tell
        nothing new, or there are none left."""
        return None

    @property
    def has_offset(self) -> bool:
        """Whether activations have a mean of their own, at which `b_dec` had better begin."""
        return True

    @property
    def text(self) -> ActivationStore | None:
        """Activations with their text, to browse latents in, if there are any."""
        return None


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be made ready, and how."""

    config: RunConfig
    """The run."""
    folder: Path
    """Its folder."""
    harvest: bool
    """Whether activations may be read from a model; otherwise they must be there."""
    progress: bool = True
    """Whether to show bars."""
    ranks: Ranks | None = None
    """The processes that share the work."""
    model: LanguageModel | None = None
    """The model, if it is loaded already."""
    plan: Plan | None = None
    """What the harvest takes, if that is known and has been shown already."""
