"""Worlds in which failures have occasion to appear, to fit on and to hold out.

Parents fire without any child 30 to 60% of the time, siblings may fire together, features outnumber
dimensions and some lie near to each other, firing is correlated and anti-correlated, magnitudes
vary. The worlds held out differ from the others in dimensions, shapes of trees, rates, kinds of
correlation and magnitudes, not only in their seeds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from latent_assay.worlds import (
    Conditional,
    FoldedNormal,
    Hierarchy,
    Independent,
    Link,
    Normal,
    SideBySide,
    Uniform,
    World,
    correlated_pair,
    directions,
    rates,
)


@dataclass(frozen=True, kw_only=True)
class NamedWorld:
    """A family of worlds that differ by their seed."""

    name: str
    """Its name in tables."""
    held_out: bool
    """Whether nothing may be fitted on it."""
    make: Callable[[torch.Generator], World]
    """Draws one of the family."""

    def world(self, seed: int) -> World:
        """The world of a seed."""
        return self.make(torch.Generator().manual_seed(seed))


def near(
    rows: Float[Tensor, "feature d_in"], pairs: Sequence[tuple[int, int]], cosine: float
) -> Float[Tensor, "feature d_in"]:
    r"""The same directions, but of each pair the second tilted towards the first.

    $$f_j \leftarrow c\, f_i + \sqrt{1 - c^2}\, \frac{f_j - (f_i \cdot f_j) f_i}
      {\| f_j - (f_i \cdot f_j) f_i \|}$$

    **Arguments:**
    - `rows`: unit directions.
    - `pairs`: which.
    - `cosine`: $c$.
    """
    rows = rows.clone()
    for i, j in pairs:
        rest = normalize(rows[j] - (rows[i] @ rows[j]) * rows[i], dim=0)
        rows[j] = cosine * rows[i] + (1 - cosine**2) ** 0.5 * rest
    return rows


def _families(generator: torch.Generator) -> World:
    """Families of one, two and three children, the last exclusive; features enough dimensions."""
    trees = Hierarchy(
        parents=(None, 0, None, 2, 2, None, 5, 5, 5),
        rates=(0.22, 0.45, 0.25, 0.35, 0.3, 0.28, 0.2, 0.17, 0.15),
        exclusive=(5,),
    )
    others = Independent(rates=rates.linear(13, first=0.18, last=0.04))
    firing = SideBySide(parts=(trees, others))
    return World(
        directions=directions.orthonormal(firing.n_features, 32, generator),
        firing=firing,
        magnitudes=Normal(mean=1.0, sd=0.15),
    )


def _crowded(generator: torch.Generator) -> World:
    """More features than dimensions, some of them neighbours; small families."""
    trees = Hierarchy(
        parents=(None, 0, 0, None, 3, None, 5),
        rates=(0.18, 0.3, 0.25, 0.15, 0.5, 0.2, 0.4),
    )
    others = Independent(rates=rates.zipfian(29, exponent=0.6, highest=0.12, lowest=0.02))
    firing = SideBySide(parts=(trees, others))
    rows = directions.superposed(firing.n_features, 30, generator, steps=30)
    return World(
        directions=near(rows, ((8, 9), (10, 11), (0, 12)), 0.4),
        firing=firing,
        magnitudes=Normal(mean=1.0, sd=0.2),
    )


def _correlated(generator: torch.Generator) -> World:
    """No hierarchy: positive and negative correlations of pairs."""
    pairs = [
        correlated_pair((0.2, 0.15), 0.35),
        correlated_pair((0.25, 0.12), 0.25),
        correlated_pair((0.15, 0.1), 0.45),
        correlated_pair((0.3, 0.25), -0.3),
        correlated_pair((0.28, 0.2), -0.28),
        Independent(rates=rates.linear(10, first=0.2, last=0.05)),
    ]
    firing = SideBySide(parts=pairs)
    return World(
        directions=directions.orthonormal(firing.n_features, 24, generator),
        firing=firing,
        magnitudes=FoldedNormal(mean=1.2, sd=0.25),
    )


def _deep(generator: torch.Generator) -> World:
    """Chains of three generations, weaker from one to the next."""
    trees = Hierarchy(
        parents=(None, 0, 1, None, 3, 3, 4, None, 7),
        rates=(0.3, 0.5, 0.4, 0.25, 0.35, 0.3, 0.35, 0.2, 0.55),
    )
    others = Independent(rates=rates.linear(9, first=0.15, last=0.03))
    firing = SideBySide(parts=(trees, others))
    means = (1.4, 1.1, 0.8, 1.3, 1.0, 1.1, 0.8, 1.0, 1.0, *[1.0] * 9)
    return World(
        directions=directions.orthonormal(firing.n_features, 40, generator),
        firing=firing,
        magnitudes=Normal(mean=means, sd=tuple(0.12 * each for each in means)),
    )


def _broad(generator: torch.Generator) -> World:
    """One parent of five children that fire freely together, and a child with a child."""
    trees = Hierarchy(
        parents=(None, 0, 0, 0, 0, 0, None, 6, 7, None, 9, 9),
        rates=(0.35, 0.14, 0.13, 0.12, 0.11, 0.1, 0.2, 0.42, 0.38, 0.16, 0.33, 0.21),
    )
    others = Independent(rates=rates.zipfian(16, exponent=0.8, highest=0.22, lowest=0.03))
    firing = SideBySide(parts=(trees, others))
    return World(
        directions=directions.orthonormal(firing.n_features, 44, generator),
        firing=firing,
        magnitudes=FoldedNormal(mean=1.6, sd=0.3),
    )


def _packed(generator: torch.Generator) -> World:
    """Far more features than dimensions, neighbours up to cosine .45, exclusive siblings."""
    trees = Hierarchy(
        parents=(None, 0, 0, 0, None, 4, 4, None, 7),
        rates=(0.2, 0.18, 0.15, 0.12, 0.14, 0.3, 0.22, 0.12, 0.5),
        exclusive=(0,),
    )
    others = Independent(rates=rates.linear(45, first=0.07, last=0.012))
    firing = SideBySide(parts=(trees, others))
    rows = directions.superposed(firing.n_features, 38, generator, steps=30)
    return World(
        directions=near(rows, ((10, 11), (12, 13), (14, 15), (4, 16), (17, 0)), 0.45),
        firing=firing,
        magnitudes=Normal(mean=1.0, sd=0.25),
    )


def _entangled(generator: torch.Generator) -> World:
    """Families beside pairs that come or stay away together, as many features as dimensions."""
    parts = [
        Hierarchy(parents=(None, 0, 0), rates=(0.24, 0.38, 0.2)),
        Hierarchy(parents=(None, 0), rates=(0.17, 0.52)),
        correlated_pair((0.22, 0.1), 0.38),
        correlated_pair((0.18, 0.16), 0.3),
        correlated_pair((0.33, 0.21), -0.32),
        correlated_pair((0.26, 0.24), -0.25),
        Independent(rates=rates.linear(13, first=0.16, last=0.04)),
    ]
    firing = SideBySide(parts=parts)
    means = tuple(0.8 + 0.05 * (i % 9) for i in range(firing.n_features))
    return World(
        directions=directions.orthonormal(firing.n_features, firing.n_features, generator),
        firing=firing,
        magnitudes=Normal(mean=means, sd=0.1),
    )


def _loose(generator: torch.Generator) -> World:
    """Children that sometimes fire without their parent; magnitudes from a half to three halves."""
    firing = Conditional(
        rates=(0.25, None, None, 0.2, None, *rates.linear(15, first=0.14, last=0.04)),
        links=(
            Link(feature=1, on=0, fires=0.3, silent=0.008),
            Link(feature=2, on=0, fires=0.24, silent=0.006),
            Link(feature=4, on=3, fires=0.45, silent=0.01),
        ),
    )
    return World(
        directions=directions.orthonormal(firing.n_features, 28, generator),
        firing=firing,
        magnitudes=Uniform(low=0.6, high=1.4),
    )


WORLDS: tuple[NamedWorld, ...] = (
    NamedWorld(name="families", held_out=False, make=_families),
    NamedWorld(name="crowded", held_out=False, make=_crowded),
    NamedWorld(name="correlated", held_out=False, make=_correlated),
    NamedWorld(name="deep", held_out=False, make=_deep),
    NamedWorld(name="broad", held_out=True, make=_broad),
    NamedWorld(name="packed", held_out=True, make=_packed),
    NamedWorld(name="entangled", held_out=True, make=_entangled),
    NamedWorld(name="loose", held_out=True, make=_loose),
)
"""All worlds of the calibration."""
