"""Random pairs, worlds and matrices for property tests."""

import torch
from hypothesis import strategies as st

from latent_assay.theory import PairStates
from latent_assay.worlds import Enumeration


@st.composite
def pair_states(draw, *, hierarchy=False):
    """States of two features; the second a child of the first if `hierarchy`."""
    shares = [draw(st.floats(0.01, 1.0)) for _ in range(4)]
    if hierarchy:
        shares[2] = 0.0
    p11, p10, p01, _ = (share / sum(shares) for share in shares)
    return PairStates(p11=p11, p10=p10, p01=p01)


@st.composite
def worlds(draw, *, features=(2, 3, 4)):
    """A finite world over all patterns with random probabilities, magnitudes and directions."""
    n = draw(st.sampled_from(features))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    digits = torch.arange(2**n).unsqueeze(-1) >> torch.arange(n - 1, -1, -1)
    firing = (digits & 1).bool()
    probability = torch.rand(2**n, generator=generator, dtype=torch.float64) + 0.02
    size = torch.rand(n, generator=generator, dtype=torch.float64) * 2 + 0.3
    magnitudes = firing * size
    directions = torch.randn(n, n + 2, generator=generator, dtype=torch.float64)
    return Enumeration(
        firing=firing,
        magnitudes=magnitudes,
        x=magnitudes @ directions,
        probability=probability / probability.sum(),
    )


@st.composite
def matrices(draw):
    """W, directions, magnitudes, probability and gamma of matching random shapes."""
    n, d_in, samples = (draw(st.integers(1, 5)) for _ in range(3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    probability = normal(samples).exp()
    return (
        normal(n, d_in),
        normal(n, d_in),
        normal(samples, n).relu(),
        probability / probability.sum(),
        normal(d_in).abs(),
    )


def independent(rates, magnitudes):
    """The finite world of independent features along the axes."""
    n = len(rates)
    digits = torch.arange(2**n).unsqueeze(-1) >> torch.arange(n - 1, -1, -1)
    firing = (digits & 1).bool()
    p = torch.tensor(rates, dtype=torch.float64)
    values = firing * torch.tensor(magnitudes, dtype=torch.float64)
    return Enumeration(
        firing=firing,
        magnitudes=values,
        x=values,
        probability=torch.where(firing, p, 1 - p).prod(-1),
    )
