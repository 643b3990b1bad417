"""What a reader of any format returns: one SAE, and what its files say about it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from latent_assay.errors import FormatError
from latent_assay.formats.files import is_file, read_json
from latent_assay.sae import SAE

Formula = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From raw activations `[sample, d_in]` in float64 to latent activations and reconstruction: the
format's own formula, applied to the tensors as they stand in the file. It shares no code with
`SAE`, which is why it can tell whether the SAE made of the file does the same."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where files came from, as the user put it."""

    text: str
    """A path's last parts, or `owner/name/folder` on the hub; the words of it are evidence."""
    repo_id: str | None = None
    """The repository on the hub, if they came from there."""
    revision: str | None = None
    """Its commit."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One SAE as a folder or file holds it."""

    sae: SAE
    """The SAE, of one member, in evaluation mode; it takes raw activations."""
    format: str
    """The format: SAELens, Gemma Scope, dictionary_learning or sparsify."""
    architecture: str
    """The format's own word for the architecture."""
    dtype: str
    """The type of the numbers in the file."""
    formula: Formula
    """What the format says that the SAE does."""
    normalisation: str = "none"
    """What it expects to be done to activations first, and whether that is folded in already."""
    model: str | None = None
    """The language model that it was trained on, as the file names it."""
    hook_point: str | None = None
    """Where in the model, as the file names it."""
    reshape: str = "none"
    """"hook_z" if activations come with an axis for heads, which are laid side by side here."""
    notes: tuple[str, ...] = ()
    """What was rewritten on the way, and what else a user should know."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """The rest of what is known of its origin, in SAELens' words."""


def nearby_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file that only informs; empty if it is missing or damaged."""
    try:
        return read_json(path) if is_file(path) else {}
    except FormatError:
        return {}


def known(**values: Any) -> dict[str, Any]:
    """The values that are there."""
    return {name: value for name, value in values.items() if value is not None}


def text_or_none(value: object) -> str | None:
    """A text of reasonable length, or None."""
    return value if isinstance(value, str) and 0 < len(value) <= 500 else None
