"""How far two computations are apart."""

import torch

from latent_assay.reproductions.gap import gap


def test_gap_is_the_largest_whatever_its_sign():
    a = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    b = torch.tensor([[1.5, 2.0], [1.0, 4.0]])
    assert gap(a, b) == gap(b, a) == 2.0
    assert gap(a, a) == 0.0
