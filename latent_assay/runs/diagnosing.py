"""From files of an SAE to a diagnosis and its page."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latent_assay import __version__
from latent_assay.activations import ActivationStore
from latent_assay.diagnosis import Diagnosis, diagnose
from latent_assay.diagnosis.calibration import truth
from latent_assay.diagnosis.pages import DiagnosedSAE, diagnosis_report, excerpts, write_page
from latent_assay.errors import ConfigError, DataError, did_you_mean
from latent_assay.runs.inputs import read_saes, store_for
from latent_assay.runs.stored_outcome import read_numbers
from latent_assay.worlds import World, presets

_ROWS_AT_ONCE = 4_096
TRUTH_SAMPLES = 30_000
"""Samples that tell what a latent truly is."""


def diagnose_files(
    source: str,
    *,
    activations: Path | None = None,
    model: str | None = None,
    text: str = "cpython",
    hook_point: str | None = None,
    world: str | None = None,
    samples: int = 100_000,
    member: int | None = None,
    extension: Path | None = None,
    folder: Path | None = None,
    progress: bool = True,
) -> Diagnosis:
    """Diagnose an SAE from files, and write the diagnosis if there is a place for it.

    **Arguments:**
    - `source`: what `formats.load` takes.
    - `activations`: a harvest, or a file of activations.
    - `model`, `text`, `hook_point`: what to harvest instead; the hook point is taken from the
      SAE's files if not given.
    - `world`: the name of a preset to sample instead. With none of these, the weights alone are
      judged.
    - `samples`: how many activations are read at most.
    - `member`: which member of an ensemble; None if there is only one.
    - `extension`: a folder of an extension whose control this SAE became, for what its latents
      handed over.
    - `folder`: where `diagnosis.html`, `diagnosis.json` and `diagnosis.safetensors` go; None to
      write nothing. What is harvested goes beside it, to `FOLDER-activations`.
    - `progress`: whether to show progress.

    **Raises:** `ConfigError` if more than one source of activations is given or the preset is
    unknown; as `formats.load` and `diagnose` do.
    """
    if world is not None and (activations is not None or model is not None):
        raise ConfigError("give one of --world, --activations and --model, not several.")
    (named,) = read_saes([source])
    provenance: dict[str, Any] = {
        "sae": source,
        "model": named.model,
        "hook_point": hook_point or named.hook_point,
        "version": __version__,
    }
    store = store_for(
        [named],
        activations=activations,
        model=model,
        text=text,
        hook_point=hook_point,
        tokens=samples,
        folder=Path("diagnosis") if folder is None else _beside(folder),
        progress=progress,
    )
    batches: Rows | _Samples | None = None
    made = None if world is None else _world(world)
    if made is not None:
        if made.d_in != named.sae.d_in:
            raise DataError(
                f"the SAE reads d_in {named.sae.d_in}, but the world `{world}` has d_in "
                f"{made.d_in}. Was the SAE trained in another world?"
            )
        batches = _Samples(made, samples)
        provenance["activations"] = f"world {world}"
    elif store is not None:
        store = store.part(0, min(samples, store.n_rows))
        batches = Rows(store)
        provenance["activations"] = str(activations or f"{model}: {text}")
    handed_over = None
    if extension is not None:
        by_latent = read_numbers(extension).degree.difference_by_latent
        handed_over = by_latent[0 if member is None else member]
    found = diagnose(
        named.sae, batches, member=member, handed_over=handed_over, provenance=provenance
    )
    if folder is not None:
        found.write(folder)
        places = None
        if store is not None and store.manifest:
            places = excerpts(found, named.sae, store, member=member)
        known = None
        if made is not None:
            sample = made.sample(TRUTH_SAMPLES, torch.Generator().manual_seed(1))
            known = truth(named.sae.take(member or 0), made, sample)
        page = diagnosis_report(
            [DiagnosedSAE(name=named.name, diagnosis=found, excerpts=places, truth=known)],
            title=f"Diagnosis of {named.name}",
            created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
        write_page(page, folder)
    return found


def _beside(folder: Path) -> Path:
    """Where a harvest goes: the diagnosis replaces its own folder as a whole."""
    return folder.with_name(f"{folder.name}-activations")


def _world(name: str) -> World:
    makers = presets.PRESETS
    if name not in makers:
        raise ConfigError(
            f"there is no world `{name}`; expected one of {', '.join(makers)}."
            f"{did_you_mean(name, makers)}"
        )
    return makers[name]()


class Rows:
    """The rows of a store, batch by batch, as often as they are asked for.

    **Arguments:**
    - `store`: the activations.
    """

    def __init__(self, store: ActivationStore):
        self.store = store

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, self.store.n_rows, _ROWS_AT_ONCE):
            yield self.store.rows(start, min(start + _ROWS_AT_ONCE, self.store.n_rows)).float()


class _Samples:
    """The same samples of a world, as often as they are asked for."""

    def __init__(self, world: World, n: int):
        self.world, self.n = world, n

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        for start in range(0, self.n, _ROWS_AT_ONCE):
            yield self.world.sample(min(_ROWS_AT_ONCE, self.n - start), generator).x
