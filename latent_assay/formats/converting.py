"""From any format that can be read into the SAELens layout, with golden vectors."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latent_assay.atomic import new_folder, plain
from latent_assay.errors import StorageError
from latent_assay.formats import golden, saelens
from latent_assay.formats.files import is_folder, names_in
from latent_assay.formats.loading import agreement, read_found
from latent_assay.formats.reading import Origin, Reading
from latent_assay.formats.recognise import recognise
from latent_assay.formats.saelens.writer import member_folder, representable

_OURS = {saelens.CONFIG_FILE, saelens.WEIGHTS_FILE, golden.GOLDEN_FILE}


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was converted, and how closely the result agrees with its source."""

    target: Path
    """The folder that was written."""
    format: str
    """The format of the source."""
    architecture: str
    """Its architecture, in that format's word."""
    members: int
    """Number of SAEs."""
    d_in: int
    """Length of an activation."""
    width: tuple[int, ...]
    """Number of latents of each member."""
    notes: tuple[str, ...]
    """What was rewritten on the way."""
    agreement: tuple[golden.Agreement, ...]
    """How closely each member reproduces the source's golden vectors."""

    def to_json(self) -> dict[str, Any]:
        """The same as plain values: for a person, or as JSON."""
        worst = max(max(each.latents, each.reconstruction) for each in self.agreement)
        vectors = sum(each.samples for each in self.agreement)
        firing = sum(each.firing for each in self.agreement) / self.members
        return {
            "written": str(self.target),
            "from": f"{self.format}, {self.architecture}",
            "d_in": self.d_in,
            "width": self.width[0] if len(set(self.width)) == 1 else list(self.width),
            "members": self.members,
            "golden vectors": f"{vectors}, reproduced to {worst:.1e}, {firing:.4g} latents firing",
            "notes": list(self.notes),
        }


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    input_scale: float | None = None,
) -> Conversion:
    """Convert an SAE of any known format into the SAELens layout.

    The golden vectors are what the source format's own formula gives, in float64, from the tensors
    in the source. The SAE made of them must reproduce them, before it is written and after it is
    read back; only then does the folder appear. Model, hook point and the rest of the source's
    metadata go with it.

    **Arguments:**
    - `source`, `input_scale`: those of `load`.
    - `target`: the folder to write. If it exists it must be empty or hold an earlier SAE, which is
      replaced.

    **Raises:** `FormatError` as `load` does, or if the layout has no word for the sparsifier;
    `StorageError` if the target cannot be written, holds anything else, or is the source itself.
    """
    found = recognise(source)
    target = Path(target)
    _claim(target, found.places)
    readings = read_found(found, input_scale)
    agreement(found, readings)
    agreements = []
    with new_folder(target) as draft:
        for number, reading in enumerate(readings):
            sae = reading.sae
            representable(sae)
            vectors = golden.make(sae, reading.formula)
            what = f"what was made of '{os.fspath(source)}'"
            golden.check(vectors, sae, what)
            place = member_folder(draft, number, len(readings))
            saelens.write(sae, place, _metadata(reading, found.origin), reading.reshape)
            golden.write(vectors, place, sae)
            again = saelens.read(place, Origin(text=place.name)).sae
            agreements.append(golden.check(golden.read(place, again), again, what))
    first = readings[0]
    return Conversion(
        target=target,
        format=first.format,
        architecture=first.architecture,
        members=len(readings),
        d_in=first.sae.d_in,
        width=tuple(reading.sae.width for reading in readings),
        notes=first.notes,
        agreement=tuple(agreements),
    )


def _metadata(reading: Reading, origin: Origin) -> dict[str, Any]:
    """What the target says of its origin; paths of this machine stay here."""
    name = origin.text.rpartition("/")[2] if origin.repo_id is None else origin.text
    source = {
        "format": reading.format,
        "architecture": reading.architecture,
        "dtype": reading.dtype,
        "normalisation": reading.normalisation,
        "name": name,
        "repo_id": origin.repo_id,
        "revision": origin.revision,
        "notes": list(reading.notes),
    }
    earlier = {k: each for k, each in reading.metadata.items() if k != "converted_from"}
    return dict(plain(earlier | {"converted_from": source}))


def _claim(target: Path, places: tuple[Path, ...]) -> None:
    """Refuse a target whose replacement would destroy something other than an earlier SAE."""
    resolved = target.resolve()
    for place in places:
        if resolved == place.resolve() or resolved in place.resolve().parents:
            raise StorageError(
                f"cannot convert into '{target}', which holds the source; choose another folder."
            )
    if not is_folder(target):
        return
    inner = names_in(target)
    members = [name for name in inner if name.startswith("member_") and is_folder(target / name)]
    further = set(inner) - _OURS - set(members)
    for member in members:
        further |= {f"{member}/{name}" for name in set(names_in(target / member)) - _OURS}
    if further:
        raise StorageError(
            f"cannot convert into '{target}': it holds {', '.join(sorted(further)[:5])}, which is "
            "no part of an SAE and would be lost. Choose a new or empty folder."
        )
