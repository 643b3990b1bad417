"""Sources 000 and 001: the proof of absorption, its toy models, and penalties other than L1."""

from latent_assay.reproductions.absorption import (
    imperfect,
    lp,
    magnitude_variance,
    proofs,
    toy,
)
from latent_assay.reproductions.entry import Entry

ENTRIES: tuple[Entry, ...] = (
    *proofs.ENTRIES,
    *toy.ENTRIES,
    *magnitude_variance.ENTRIES,
    *imperfect.ENTRIES,
    *lp.ENTRIES,
)
