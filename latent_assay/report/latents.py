"""A page for every latent: its contexts, histogram, neighbours and encoder–decoder cosine."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from latent_assay.errors import ConfigError, DataError, ShapeError
from latent_assay.metrics import encoder_decoder_cosine, nearest_latents
from latent_assay.report.contexts import LatentContexts
from latent_assay.report.strict_json import pack


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """The tokens that the latents were shown, each distinct piece of text stored once."""

    pieces: tuple[str, ...]
    """Distinct pieces of text."""
    ids: Int[np.ndarray, " position"]
    """Which piece stands at each position."""
    documents: Int[np.ndarray, " document"]
    """Position of each document's first token, rising from 0."""

    def __post_init__(self) -> None:
        if len(self.ids) and not 0 <= self.ids.min() <= self.ids.max() < len(self.pieces):
            raise DataError(
                f"every token must be one of the corpus's {len(self.pieces)} pieces, received ids "
                f"from {self.ids.min()} to {self.ids.max()}. Build the corpus by "
                "`Corpus.of_documents` or `Corpus.of_ids`."
            )

    @classmethod
    def of_documents(cls, documents: Iterable[Sequence[str]]) -> "Corpus":
        """A corpus out of documents, each a sequence of token texts; empty ones are dropped.

        >>> Corpus.of_documents([["a", "b"], [], ["a"]]).ids
        array([0, 1, 0])
        """
        table: dict[str, int] = {}
        ids: list[int] = []
        starts: list[int] = []
        for document in documents:
            if document:
                starts.append(len(ids))
            ids.extend(table.setdefault(piece, len(table)) for piece in document)
        return cls(
            pieces=tuple(table),
            ids=np.array(ids, dtype=np.int64),
            documents=np.array(starts, dtype=np.int64),
        )

    @classmethod
    def of_ids(
        cls,
        ids: Int[np.ndarray, " position"],
        vocabulary: Sequence[str],
        documents: Int[np.ndarray, " document"],
    ) -> "Corpus":
        """A corpus out of token ids; only the pieces that occur are kept.

        **Arguments:**
        - `ids`: token ids.
        - `vocabulary`: the text of every token id.
        - `documents`: position of each document's first token.

        >>> Corpus.of_ids(np.array([7, 2, 7]), list("abcdefgh"), np.array([0])).pieces
        ('c', 'h')
        """
        used, compact = np.unique(ids, return_inverse=True)
        if len(used) and not 0 <= used[0] <= used[-1] < len(vocabulary):
            raise DataError(
                f"token ids must lie in a vocabulary of {len(vocabulary)} tokens, received ids "
                f"from {used[0]} to {used[-1]}. Use the tokenizer that made the ids."
            )
        return cls(
            pieces=tuple(vocabulary[i] for i in used),
            ids=compact.astype(np.int64),
            documents=np.asarray(documents).astype(np.int64),
        )

    def to_json(self) -> dict[str, Any]:
        """`pieces`, `documents`, and `ids` as a packed array."""
        kind = np.uint16 if len(self.pieces) <= 1 << 16 else np.uint32
        return {
            "pieces": list(self.pieces),
            "ids": pack(self.ids.astype(kind)),
            "documents": self.documents,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentPages:
    """What is shown for every latent of one SAE."""

    name: str
    """The SAE."""
    contexts: LatentContexts
    """Where its latents fire, from `latent_contexts`."""
    cosine: Float[np.ndarray, " latent"]
    """Encoder–decoder cosine."""
    nearest: Int[np.ndarray, "latent neighbour"]
    """Latents with the nearest decoder directions, nearest first."""
    nearest_cosine: Float[np.ndarray, "latent neighbour"]
    """Their cosines."""
    labels: tuple[str, ...] | None = None
    """A diagnosis for each latent, such as "absorbed"; empty where there is none."""

    def __post_init__(self) -> None:
        width = self.contexts.width
        lengths = {
            "cosine": len(self.cosine),
            "nearest": len(self.nearest),
            "nearest_cosine": len(self.nearest_cosine),
        }
        if self.labels is not None:
            lengths["labels"] = len(self.labels)
        wrong = {name: length for name, length in lengths.items() if length != width}
        if wrong or np.shape(self.nearest) != np.shape(self.nearest_cosine):
            raise ShapeError(
                f"the contexts of '{self.name}' describe {width} latents, but received "
                f"{wrong or 'neighbours and cosines of different shapes'}. "
                "Pass one entry for each latent."
            )

    @classmethod
    def of(
        cls,
        name: str,
        encoder: Float[Tensor, "latent d_in"],
        decoder: Float[Tensor, "latent d_in"],
        contexts: LatentContexts,
        *,
        neighbours: int = 8,
        labels: Sequence[str] | None = None,
    ) -> "LatentPages":
        """The pages of one SAE from its weights and contexts.

        **Arguments:**
        - `name`: the SAE's name, as in the other sections.
        - `encoder`, `decoder`: its weights, one row for each latent.
        - `contexts`: from `latent_contexts`.
        - `neighbours`: how many nearest latents to show.
        - `labels`: a diagnosis for each latent, if there is one.
        """
        count = min(neighbours, len(decoder) - 1)
        if count > 0:
            near = nearest_latents(decoder.detach(), count)
            # a row without neighbours (length zero) is shown with none that is near
            nearest, nearest_cosine = (
                near.latent.clamp_min(0).cpu().numpy(),
                near.cosine.float().cpu().numpy(),
            )
        else:
            nearest = np.zeros((len(decoder), 0), dtype=np.int64)
            nearest_cosine = np.zeros((len(decoder), 0), dtype=np.float32)
        return cls(
            name=name,
            contexts=contexts,
            cosine=encoder_decoder_cosine(encoder.detach(), decoder.detach()).float().cpu().numpy(),
            nearest=nearest,
            nearest_cosine=nearest_cosine,
            labels=None if labels is None else tuple(labels),
        )

    def to_json(self) -> dict[str, Any]:
        """Lists with one entry per latent, and `activations` packed.

        `peaks[i]` are corpus positions, strongest first. `activations` is an int8 array of the
        shape [latent, context, window]: its value a stands for the activation a · maximum / 126,
        -128 for no token, -127 for a token that was left out; the peak is at index `before`.
        """
        found = self.contexts
        most = int((found.peaks >= 0).sum(axis=1).max(initial=0))
        return {
            "name": self.name,
            "rows": found.rows,
            "before": found.config.before,
            "density": found.density,
            "maximum": found.maximum,
            "cosine": self.cosine,
            "nearest": self.nearest,
            "nearest_cosine": np.round(self.nearest_cosine.astype(np.float64), 4),
            "histogram": found.histogram,
            "peaks": [[p for p in row if p >= 0] for row in found.peaks.tolist()],
            "activations": pack(found.activations[:, :most]),
            "labels": None if self.labels is None else list(self.labels),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentBrowser:
    """A searchable page of latents, for one or several SAEs that read the same corpus."""

    corpus: Corpus
    """The text."""
    saes: tuple[LatentPages, ...]
    """The SAEs."""
    title: str = "Latents"
    """The section's heading."""
    sentence: str = ""
    """What the reader finds here."""
    kind: str = field(default="latent_browser", init=False)

    def __post_init__(self) -> None:
        if not self.saes:
            raise ConfigError("a browser of latents needs at least one SAE, received none.")
        for pages in self.saes:
            last = int(pages.contexts.peaks.max(initial=-1))
            if last >= len(self.corpus.ids):
                raise DataError(
                    f"the contexts of '{pages.name}' reach position {last}, but the corpus has "
                    f"{len(self.corpus.ids)} tokens. Pass the corpus that the contexts were "
                    "found in."
                )

    def to_json(self) -> dict[str, Any]:
        """`corpus` as `Corpus.to_json`, `saes` as `LatentPages.to_json`."""
        return {
            "kind": self.kind,
            "title": self.title,
            "sentence": self.sentence,
            "corpus": self.corpus.to_json(),
            "saes": [pages.to_json() for pages in self.saes],
        }
