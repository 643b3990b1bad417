"""The benchmark of diagnosis, at a size that takes a moment."""

import numpy as np

from benchmarks.ours.diagnosis import batches, subject
from latent_assay.diagnosis import diagnose


def test_what_the_benchmark_runs():
    sae = subject(256, 32)
    activations = batches(sae, 3_000, batch=1_024)
    assert [len(x) for x in activations] == [1_024, 1_024, 952]
    found = diagnose(sae, activations)
    assert found.evidence.n_samples == 3_000
    assert found.evidence.columns["density"].mean() == np.float64(32 / 256)
