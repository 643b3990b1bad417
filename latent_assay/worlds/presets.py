"""Worlds of the literature, by name.

Each function takes a generator, from which directions (and whatever else is random about the
world itself) are drawn, and returns a `World` on the generator's device. Without one it draws from
a new generator with seed 0 on the CPU, and so returns the same world every time. Features are
numbered from 0 throughout; papers often count from 1.

Sources, by the short names used below:

- *absorption*: A is for Absorption, [arXiv 2409.14507](https://arxiv.org/abs/2409.14507).
- *hedging*: Feature Hedging: Correlated Features Break Narrow Sparse Autoencoders.
- *broken latents*: Broken Latents, a post on SAEs and feature co-occurrence in toy models.
- *identifiability*: On the Theoretical Understanding of Identifiable Sparse Autoencoders.
"""

from collections.abc import Callable, Sequence

import torch

from latent_assay.errors import ConfigError, WorldError
from latent_assay.worlds import rates
from latent_assay.worlds.benchmark import synth_bench
from latent_assay.worlds.directions import learned, orthonormal, superposed
from latent_assay.worlds.firing import (
    ChildSwitchesParent,
    Conditional,
    Firing,
    GaussianCopula,
    Hierarchy,
    Independent,
    Link,
    correlated_pair,
    random_correlation,
)
from latent_assay.worlds.magnitudes import Constant, Linear, Normal, Uniform
from latent_assay.worlds.world import World


def absorption(
    generator: torch.Generator | None = None, *, d_in: int = 50, parent_sd: float = 0.0
) -> World:
    r"""Four features, of which 1 fires only with its parent 0: where absorption is seen.

    $P(0) = .25$, $P(1 \mid 0) = .2$ so that all of 1, 2 and 3 fire at rate .05; all magnitudes 1.

    **Arguments:**
    - `generator`: source of the directions.
    - `d_in`: dimensions.
    - `parent_sd`: standard deviation of the parent's magnitude; .1 makes absorption partial.

    **Reference:** *absorption*, toy models.
    """
    varying = parent_sd != 0
    return _orthonormal_world(
        generator,
        d_in,
        Hierarchy(parents=(None, 0, None, None), rates=(0.25, 0.2, 0.05, 0.05)),
        Normal(mean=1.0, sd=(parent_sd, 0.0, 0.0, 0.0)) if varying else Constant(),
    )


def imperfect_absorption(
    generator: torch.Generator | None = None, *, d_in: int = 50, together: float = 0.95
) -> World:
    r"""The absorption world in which the child sometimes fires without its parent.

    Rates stay $P(0) = .25$ and $P(1) = P(2) = P(3) = .05$; a share $s$ of the firings of 1 comes
    with 0, so $P(1 \mid 0) = .05 s / .25$ and $P(1 \mid \neg 0) = .05 (1 - s) / .75$.

    **Arguments:**
    - `generator`: source of the directions.
    - `d_in`: dimensions.
    - `together`: $s$.

    **Reference:** *absorption*, extended toy models.
    """
    if not 0 <= together <= 1:
        raise ConfigError(f"`together` is {together}, but a share lies between 0 and 1.")
    link = Link(feature=1, on=0, fires=0.05 * together / 0.25, silent=0.05 * (1 - together) / 0.75)
    firing = Conditional(rates=(0.25, None, 0.05, 0.05), links=(link,))
    return _orthonormal_world(generator, d_in, firing)


def hedging_independent(
    generator: torch.Generator | None = None, *, n_features: int = 4, d_in: int = 50
) -> World:
    """The hedging world whose features are independent: a narrow SAE does not hedge here.

    All features fire at rate .25 but the last, which fires at .2; magnitudes 1.

    **Arguments:**
    - `generator`: source of the directions.
    - `n_features`: 4, or 2 for the single-latent experiments.
    - `d_in`: dimensions.

    **Reference:** *hedging*, §3.1 and appendix A.1.
    """
    _at_least_two(n_features)
    return _orthonormal_world(generator, d_in, Independent(rates=(*[0.25] * (n_features - 1), 0.2)))


def hedging_hierarchical(
    generator: torch.Generator | None = None, *, n_features: int = 4, d_in: int = 50
) -> World:
    """The hedging world whose last feature fires only with the one before it.

    P(last | parent) = .2 and P(last | not parent) = 0; the others fire at rate .25.

    **Arguments:** as for `hedging_independent`.

    **Reference:** *hedging*, §3.2 and appendix A.1.
    """
    return _hedging(generator, n_features, d_in, fires=0.2, silent=0.0)


def hedging_positive(
    generator: torch.Generator | None = None, *, n_features: int = 4, d_in: int = 50
) -> World:
    """The hedging world whose last two features are positively correlated.

    P(last | the one before) = .2 and P(last | not the one before) = .1; the others fire at .25.

    **Arguments:** as for `hedging_independent`.

    **Reference:** *hedging*, §3.3 and appendix A.1.
    """
    return _hedging(generator, n_features, d_in, fires=0.2, silent=0.1)


def hedging_anticorrelated(
    generator: torch.Generator | None = None, *, n_features: int = 4, d_in: int = 50
) -> World:
    """The hedging world whose last two features are negatively correlated.

    P(last | the one before) = .1 and P(last | not the one before) = .2; the others fire at .25.

    **Arguments:** as for `hedging_independent`.

    **Reference:** *hedging*, §3.4 and appendix A.1.
    """
    return _hedging(generator, n_features, d_in, fires=0.1, silent=0.2)


def hedging_pair(
    generator: torch.Generator | None = None, *, correlation: float, d_in: int = 50
) -> World:
    r"""Two features at rates .45 and .25 whose firing has a chosen correlation.

    **Arguments:**
    - `generator`: source of the directions.
    - `correlation`: of the binary variables; feasible from -.522 to .638.
    - `d_in`: dimensions.

    **Reference:** *hedging*, appendix A.1.
    """
    return _orthonormal_world(generator, d_in, correlated_pair((0.45, 0.25), correlation))


def hedging_copula(generator: torch.Generator | None = None, *, d_in: int = 100) -> World:
    r"""Fifty correlated features, in which the hedging degree of SAEs of many widths is measured.

    $P(i) = .05 + .345 (49 - i) / 50$, from .388 down to .05, so that the true L0 is 10.95.
    Firing is a Gaussian copula; 30% of its correlations start at zero, the rest at
    $\pm U(.3, .9)$, before they are made consistent. Magnitudes are $N(1, .15^2)$.

    **Arguments:**
    - `generator`: source of the directions and correlations.
    - `d_in`: dimensions.

    **Reference:** *hedging*, appendix A.5. Its text has the rates fall from .345 to .05, which sums
    to 9.9 and not to the 11 it states; these rates do.
    """
    generator = _or_seed_0(generator)
    firing = GaussianCopula(
        rates=rates.linear(50, first=0.3881, last=0.05),
        correlation=random_correlation(50, generator),
    )
    return _orthonormal_world(generator, d_in, firing, Normal(mean=1.0, sd=0.15))


def balance_matryoshka(
    generator: torch.Generator | None = None,
    *,
    children: Sequence[float] = (0.15, 0.15, 0.15),
    d_in: int = 50,
) -> World:
    """A parent at rate .25 and three children, on which a matryoshka SAE can be balanced.

    Each child fires with probability .15 when the parent fires, independently of its siblings.

    **Arguments:**
    - `generator`: source of the directions.
    - `children`: P(child | parent) of each child.
    - `d_in`: dimensions.

    **Reference:** *hedging*, §5 and appendix A.10.
    """
    chances = rates.checked_rates(children, "children")
    firing = Hierarchy(parents=(None, *[0] * len(chances)), rates=(0.25, *chances))
    return _orthonormal_world(generator, d_in, firing)


def unbalanceable_matryoshka(
    generator: torch.Generator | None = None, *, middle: float = 0.15, d_in: int = 50
) -> World:
    """The same with children of very different rates, on which no one balance fits them all.

    **Arguments:**
    - `generator`: source of the directions.
    - `middle`: P(child | parent) of the second child, between .02 and .5 of the others. The
      authors' code has .15, their text .2.
    - `d_in`: dimensions.

    **Reference:** *hedging*, appendix A.11.
    """
    return balance_matryoshka(generator, children=(0.02, middle, 0.5), d_in=d_in)


def broken_latents(
    generator: torch.Generator | None = None, *, parent: int | None = None, d_in: int = 50
) -> World:
    r"""Twenty features for SAEs of five latents.

    $p_i = .3 (i + 1) / 20$ and $m_i = 20 - i$: rare features are strong, and $p_i m_i^2$ is largest
    for features 4 to 8.

    **Arguments:**
    - `generator`: source of the directions.
    - `parent`: a feature that 5 and 7 switch on: 12 or 6 in the source. None for no hierarchy.
    - `d_in`: dimensions. Below 20 the features are in superposition; in 19 they form a simplex
      with every interference 1/19.

    **Reference:** *broken latents*.
    """
    chances = rates.linear(20, first=0.015, last=0.3)
    firing: Firing = Independent(rates=chances)
    if parent is not None:
        parents: list[int | None] = [None] * 20
        parents[5] = parents[7] = parent
        firing = ChildSwitchesParent(parents=parents, rates=chances)
    make = orthonormal if d_in >= 20 else superposed
    return World(
        directions=make(20, d_in, _or_seed_0(generator)),
        firing=firing,
        magnitudes=Linear(first=20.0, last=1.0),
    )


def single_latent(generator: torch.Generator | None = None, *, d_in: int = 50) -> World:
    """Four features for SAEs of a single latent, which mixes the parent with its children.

    P(0) = .3, P(1 | 0) = P(2 | 0) = .4, and 3 fires independently at rate .2; magnitudes 1.

    **Arguments:**
    - `generator`: source of the directions.
    - `d_in`: dimensions.

    **Reference:** *broken latents*.
    """
    firing = Hierarchy(parents=(None, 0, 0, None), rates=(0.3, 0.4, 0.4, 0.2))
    return _orthonormal_world(generator, d_in, firing)


def sparse_superposition(
    generator: torch.Generator | None = None,
    *,
    n_features: int = 200,
    d_in: int = 20,
    sparsity: float = 0.99,
    steps: int = 2000,
) -> World:
    r"""Sparse features in directions that the ReLU output model learned for them.

    Each feature is silent with probability $S$ and else has magnitude $U[0, 1]$; the directions
    minimise $\mathbb E \| s - \mathrm{ReLU}(W^\top W s) \|^2$. Takes seconds to train.

    **Arguments:**
    - `generator`: source of the training.
    - `n_features`, `d_in`: sizes.
    - `sparsity`: $S$.
    - `steps`: of the training.

    **Reference:** *identifiability*, §3; the sparsity and steps are ours, it does not state them.
    """
    return World(
        directions=learned(n_features, d_in, _or_seed_0(generator), sparsity=sparsity, steps=steps),
        firing=Independent(rates=rates.constant(n_features, 1 - sparsity)),
        magnitudes=Uniform(low=0.0, high=1.0),
    )


def hierarchical_demo(generator: torch.Generator | None = None, *, d_in: int = 32) -> World:
    """Sixteen features that show every kind of firing a hierarchy has, small enough to enumerate.

    Feature 0 (rate .3) has the children 1 (.4) and 2 (.2), which may fire together, and the
    grandchild 3 under 1 (.3). Feature 4 (.25) has the exclusive children 5, 6 and 7 (.2 each).
    Features 8 to 15 fire independently at rates from .2 to .05. Parents fire without a child about
    half of the time, so that absorption has support. Magnitudes are 1.

    **Arguments:**
    - `generator`: source of the directions.
    - `d_in`: dimensions, at least 16.
    """
    firing = Hierarchy(
        parents=(None, 0, 0, 1, None, 4, 4, 4, *[None] * 8),
        rates=(0.3, 0.4, 0.2, 0.3, 0.25, 0.2, 0.2, 0.2, *rates.linear(8, first=0.2, last=0.05)),
        exclusive=(4,),
    )
    return _orthonormal_world(generator, d_in, firing)


PRESETS: dict[str, Callable[..., World]] = {
    preset.__name__: preset
    for preset in (
        absorption,
        balance_matryoshka,
        broken_latents,
        hedging_anticorrelated,
        hedging_copula,
        hedging_hierarchical,
        hedging_independent,
        hedging_pair,
        hedging_positive,
        hierarchical_demo,
        imperfect_absorption,
        single_latent,
        sparse_superposition,
        synth_bench,
        unbalanceable_matryoshka,
    )
}
"""Every preset by its name."""


def _or_seed_0(generator: torch.Generator | None) -> torch.Generator:
    return torch.Generator().manual_seed(0) if generator is None else generator


def _orthonormal_world(
    generator: torch.Generator | None,
    d_in: int,
    firing: Firing,
    magnitudes: Constant | Normal | None = None,
) -> World:
    return World(
        directions=orthonormal(firing.n_features, d_in, _or_seed_0(generator)),
        firing=firing,
        magnitudes=magnitudes or Constant(),
    )


def _hedging(
    generator: torch.Generator | None, n_features: int, d_in: int, *, fires: float, silent: float
) -> World:
    _at_least_two(n_features)
    last = n_features - 1
    firing = Conditional(
        rates=(*[0.25] * last, None),
        links=(Link(feature=last, on=last - 1, fires=fires, silent=silent),),
    )
    return _orthonormal_world(generator, d_in, firing)


def _at_least_two(n_features: int) -> None:
    if n_features < 2:
        raise WorldError(
            f"`n_features` is {n_features}, but hedging is between two features. Use 2 or more."
        )
