"""Probes on few latents: what an SAE has separated, one latent or a few can tell."""

from latent_assay.evals.probing.binary_sets import BinarySet, binary_sets, read_binary_set
from latent_assay.evals.probing.classifier import ClassifierConfig, Scores, fit_and_score
from latent_assay.evals.probing.probes import Probed, ProbingConfig, probe
from latent_assay.evals.probing.ranking import ranked
from latent_assay.evals.probing.sae_probes import sae_probes
from latent_assay.evals.probing.sparse_probing import probe_labelled, sparse_probing

__all__ = [
    "BinarySet",
    "ClassifierConfig",
    "Probed",
    "ProbingConfig",
    "Scores",
    "binary_sets",
    "fit_and_score",
    "probe",
    "probe_labelled",
    "ranked",
    "read_binary_set",
    "sae_probes",
    "sparse_probing",
]
