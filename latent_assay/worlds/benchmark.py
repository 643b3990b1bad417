"""A large world with everything at once, in the manner of SynthSAEBench."""

from collections.abc import Sequence
from functools import partial

import torch

from latent_assay.errors import ConfigError
from latent_assay.worlds import rates
from latent_assay.worlds.directions import orthonormal, superposed
from latent_assay.worlds.firing import Correlation, Hierarchy
from latent_assay.worlds.magnitudes import FoldedNormal, Linear
from latent_assay.worlds.world import World


def synth_bench(
    generator: torch.Generator | None = None,
    *,
    n_features: int = 256,
    d_in: int = 64,
    alone: float = 0.4,
    steps: int = 20,
) -> World:
    r"""A world in the manner of SynthSAEBench, of any size.

    As there: base rates fall with the square root of the index from .4 to $5 \cdot 10^{-4}$; one
    feature in 128 is the root of a tree of branching 4 and depth 3, numbered generation by
    generation, siblings exclusive; the rest are free; decisions are coupled by a Gaussian copula
    of rank 25 with factor entries $N(0, .1^2)$; magnitudes have a mean that falls from 5 to 4 and
    a spread of $|N(.5, .5^2)|$; the bias has length .5; directions are in superposition.

    Otherwise than there: P(child | parent) is chosen so that a parent fires without any child in
    about a share `alone` of its firings, as far as base rates allow. In the published world
    parents hardly ever do, so that absorption has no support. Magnitudes are folded rather than
    rectified, and do not grow with the parent's.

    **Arguments:**
    - `generator`: source of directions, correlation, magnitudes and bias.
    - `n_features`, `d_in`: sizes; the benchmark has 16,384 and 768.
    - `alone`: the least share of a parent's firings without a child.
    - `steps`: iterations of the search for directions; fewer for large worlds.

    **Reference:** SynthSAEBench, in SAELens.
    """
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    device = generator.device

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device, dtype=torch.float64)

    make = orthonormal if n_features <= d_in else partial(superposed, steps=steps)
    directions = make(n_features, d_in, generator)
    factor = 0.1 * normal(n_features, 25)
    # rows may hardly be longer than 1, but a correlation matrix tolerates none
    factor = factor / factor.norm(dim=1, keepdim=True).clamp(min=1.0)
    bias = normal(d_in)
    return World(
        directions=directions,
        firing=synth_bench_firing(
            n_features, alone=alone, correlation=Correlation.low_rank(factor)
        ),
        magnitudes=FoldedNormal(
            mean=Linear(first=5.0, last=4.0).constants(n_features).tolist(),
            sd=(0.5 + 0.5 * normal(n_features)).abs().tolist(),
        ),
        bias=(0.5 * bias / bias.norm()).float(),
    )


def synth_bench_firing(
    n_features: int, *, alone: float = 0.4, correlation: Correlation | None = None
) -> Hierarchy:
    """The hierarchy of `synth_bench`.

    **Arguments:**
    - `n_features`: number of features.
    - `alone`: the least share of a parent's firings without a child.
    - `correlation`: what couples the decisions; None for independent ones.
    """
    if not 0 <= alone <= 1:
        raise ConfigError(f"`alone` is {alone}, but a share lies between 0 and 1.")
    base = rates.zipfian(n_features, exponent=0.5, highest=0.4, lowest=5e-4)
    parents = _trees(n_features, roots=max(1, n_features // 128), branching=4, depth=3)
    return Hierarchy(
        parents=parents,
        rates=_gated_rates(base, parents, alone),
        exclusive=True,
        correlation=correlation,
    )


def _trees(n_features: int, *, roots: int, branching: int, depth: int) -> list[int | None]:
    """Parents of complete trees numbered generation by generation; what is left over is free."""
    parents: list[int | None] = [None] * n_features
    generation = range(roots)
    for _ in range(depth):
        start = generation.stop
        born = range(start, min(start + branching * len(generation), n_features))
        for place, child in enumerate(born):
            parents[child] = generation.start + place // branching
        generation = born
    return parents


def _gated_rates(base: Sequence[float], parents: Sequence[int | None], alone: float) -> list[float]:
    """P(root), and P(child | parent) that comes as near to the base rates as `alone` allows."""
    overall, conditional = list(base), list(base)
    families: dict[int, list[int]] = {}
    for child, parent in enumerate(parents):
        if parent is not None:
            families.setdefault(parent, []).append(child)
    for parent, children in sorted(families.items()):  # parents have the lower numbers
        wanted = [base[child] / overall[parent] for child in children]
        scale = min(1.0, (1 - alone) / sum(wanted))
        for child, chance in zip(children, wanted, strict=True):
            conditional[child] = chance * scale
            overall[child] = conditional[child] * overall[parent]
    return conditional
