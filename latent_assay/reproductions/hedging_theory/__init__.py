"""Source 002, theory: the best single latent, the hedging theorem, and what deserves a latent."""

from latent_assay.reproductions.entry import Entry
from latent_assay.reproductions.hedging_theory import (
    cases,
    matched_filter,
    statement,
    tied_curve,
    worth,
)

ENTRIES: tuple[Entry, ...] = (
    *tied_curve.ENTRIES,
    *cases.ENTRIES,
    *statement.ENTRIES,
    *matched_filter.ENTRIES,
    *worth.ENTRIES,
)
