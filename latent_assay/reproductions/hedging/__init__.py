"""Reproductions of source 002: the toy models of feature hedging."""

from latent_assay.reproductions.entry import Entry
from latent_assay.reproductions.hedging import (
    balance,
    degree_by_width,
    four_features,
    second_latent,
    single_latent,
)

ENTRIES: tuple[Entry, ...] = (
    *second_latent.ENTRIES,
    *four_features.ENTRIES,
    *single_latent.ENTRIES,
    *balance.ENTRIES,
    *degree_by_width.ENTRIES,
)
