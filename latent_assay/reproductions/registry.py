"""All entries, in the order of the sources."""

from collections.abc import Sequence

from latent_assay.errors import ConfigError, did_you_mean
from latent_assay.reproductions import (
    absorption,
    beyond,
    broken_latents,
    hedging,
    hedging_theory,
    identifiability,
)
from latent_assay.reproductions.entry import Entry

_MODULES = (
    absorption,
    hedging,
    hedging_theory,
    identifiability,
    broken_latents,
    beyond,
)

ENTRIES: dict[str, Entry] = {entry.id: entry for module in _MODULES for entry in module.ENTRIES}
"""Every entry by its id."""


def chosen(names: Sequence[str]) -> list[Entry]:
    """Entries by id, or by the beginning of ids such as a source's number; all, if none is named.

    **Raises:** `ConfigError` for a name that fits no entry.
    """
    if not names:
        return list(ENTRIES.values())
    found: dict[str, Entry] = {}
    for name in names:
        fitting = {key: entry for key, entry in ENTRIES.items() if key.startswith(name)}
        if name in ENTRIES:
            fitting = {name: ENTRIES[name]}
        if not fitting:
            raise ConfigError(
                f"there is no reproduction `{name}`; `assay reproduce --list` names them all."
                f"{did_you_mean(name, ENTRIES)}"
            )
        found |= fitting
    return list(found.values())
