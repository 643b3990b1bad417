"""Every claim of the source documents, tested: prediction, statement and measurement side by side.

Sources:

- 000: Chanin et al. 2024, "A is for Absorption", the proof of absorption and its toy models
- 001: Chanin 2025, "Sparsity is the enemy of feature extraction (ft. absorption)"
- 002: Chanin et al. 2025, "Feature Hedging", arXiv:2505.11756
- 003: Cui et al. 2025, "On the Theoretical Understanding of Identifiable Sparse Autoencoders"
- 004: Chanin et al. 2025, "Broken Latents"
- beyond: open questions that these name, answered

A module per source holds its entries; `run` tests them and writes the report.
"""

from latent_assay.reproductions.entry import Check, Entry, Result
from latent_assay.reproductions.registry import ENTRIES, chosen
from latent_assay.reproductions.runner import reproduce

__all__ = ["ENTRIES", "Check", "Entry", "Result", "chosen", "reproduce"]
