"""Reproductions of source 004: latents that stand for no single feature."""

from latent_assay.reproductions.broken_latents import (
    cure,
    equal_width,
    one_latent,
    peaks,
    too_few,
    too_many,
)
from latent_assay.reproductions.entry import Entry

ENTRIES: tuple[Entry, ...] = (
    *equal_width.ENTRIES,
    *too_many.ENTRIES,
    *too_few.ENTRIES,
    *peaks.ENTRIES,
    *cure.ENTRIES,
    *one_latent.ENTRIES,
)
