"""What commands on trained SAEs are given: files of SAEs, a model, activations."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latent_assay import formats
from latent_assay.activations import ActivationStore, LanguageModel, harvest, text_source
from latent_assay.errors import ConfigError, DataError
from latent_assay.runs.config import ModelSource
from latent_assay.runs.sources import language_model
from latent_assay.sae import SAE, stack

_CONTEXT_SIZE = 128


@dataclass(frozen=True, kw_only=True, eq=False)
class NamedSAE:
    """An SAE from a file."""

    name: str
    """What tables call it: the last part of its path that tells it from the others."""
    source: str
    """The path or place that was given."""
    sae: SAE
    """The SAE, for raw activations; its members are its seeds."""
    model: str | None
    """The model that its files name."""
    hook_point: str | None
    """The hook point that its files name."""


def read_saes(sources: Sequence[str]) -> tuple[NamedSAE, ...]:
    """Load SAEs and give them short names.

    **Arguments:**
    - `sources`: what `formats.load` takes.

    **Raises:** `FormatError` for a file that cannot be read; `ConfigError` if one is given twice.
    """
    names = _names(sources)
    found = []
    for name, source in zip(names, sources, strict=True):
        members = formats.read(source)
        sae = members[0].sae if len(members) == 1 else stack([m.sae for m in members]).eval()
        found.append(
            NamedSAE(
                name=name,
                source=source,
                sae=sae,
                model=members[0].model,
                hook_point=members[0].hook_point,
            )
        )
    return tuple(found)


def hook_point_of(saes: Sequence[NamedSAE], given: str | None) -> str:
    """The hook point given, or the one that the files name.

    **Raises:** `ConfigError` if none is known, or the files differ.
    """
    if given is not None:
        return given
    named = sorted({sae.hook_point for sae in saes if sae.hook_point is not None})
    if len(named) != 1:
        told = f"their files name {' and '.join(named)}" if named else "their files name none"
        raise ConfigError(
            f"at which hook point do these SAEs read? Expected one for all, but {told}. Say it "
            "with --hook-point."
        )
    return named[0]


def model_named(name: str, hook_point: str, *, device: str = "cpu") -> LanguageModel:
    """A model by folder, hub name, or `bundled:all-MiniLM-L6-v2`, to be read at a hook point."""
    return language_model(ModelSource(name=name, hook_point=hook_point, device=device))


def store_for(
    saes: Sequence[NamedSAE],
    *,
    activations: Path | None,
    model: str | None,
    text: str,
    hook_point: str | None,
    tokens: int,
    folder: Path,
    progress: bool,
) -> ActivationStore | None:
    """Activations for SAEs: those of a folder or file, or harvested now; None if neither is named.

    **Raises:** `ConfigError` if both are named; `DataError` if they do not fit the SAEs.
    """
    if activations is not None and model is not None:
        raise ConfigError("give --activations or --model with --text, not both.")
    if activations is not None:
        if activations.is_dir():
            store = ActivationStore.open(activations, hook_point)
        else:
            store = ActivationStore.from_file(activations)
    elif model is not None:
        where = hook_point_of(saes, hook_point)
        loaded = model_named(model, where)
        store = harvest(
            loaded,
            text_source(text),
            hook_points=where,
            folder=folder / "activations",
            n_tokens=tokens,
            context_size=min(_CONTEXT_SIZE, loaded.max_context_size or _CONTEXT_SIZE),
            progress=progress,
        )[where]
    else:
        return None
    for each in saes:
        if each.sae.d_in != store.d_in:
            raise DataError(
                f"{each.name} reads d_in {each.sae.d_in}, but the activations have d_in "
                f"{store.d_in}. Were they read at another hook point or from another model?"
            )
    return store


def _names(sources: Sequence[str]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    if len(set(sources)) < len(sources):
        twice = next(each for each in sources if list(sources).count(each) > 1)
        raise ConfigError(f"'{twice}' is given twice; give each SAE once.")
    parts = [Path(source).parts or (source,) for source in sources]
    for length in itertools.count(1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
        if length > max(map(len, parts)):
            return list(sources)
    raise AssertionError("a count has no end")
