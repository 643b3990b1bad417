"""Reproductions of source 003.

Cui et al. 2025, "On the Theoretical Understanding of Identifiable Sparse Autoencoders and Beyond":
four theorems, four counterexamples, an example, the toy experiment of figure 2, and what
reweighting does in worlds whose features are known. The table on Pythia and the figure on vision
models need models that a laptop does not train.
"""

from latent_assay.reproductions.entry import Entry
from latent_assay.reproductions.identifiability import (
    counterexamples,
    decomposition,
    figure_2,
    reweighting,
    theorem_1,
    theorem_2,
)

ENTRIES: tuple[Entry, ...] = (
    *theorem_1.ENTRIES,
    *theorem_2.ENTRIES,
    *decomposition.ENTRIES,
    *counterexamples.ENTRIES,
    *figure_2.ENTRIES,
    *reweighting.ENTRIES,
)
