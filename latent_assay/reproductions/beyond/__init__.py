"""Open questions that the sources name, answered in the same form as their claims."""

from latent_assay.reproductions.beyond import balance, basins, mixture, single
from latent_assay.reproductions.entry import Entry

ENTRIES: tuple[Entry, ...] = (balance.ENTRY, mixture.ENTRY, single.ENTRY, basins.ENTRY)
