"""The SAEs that are trained: which recipes, how narrow or wide, how sparse."""

from collections.abc import Callable
from dataclasses import dataclass

from latent_assay.recipes import (
    Recipe,
    batchtopk,
    jumprelu,
    matryoshka,
    matryoshka_batchtopk,
    relu_l1,
    tied,
    topk,
)
from latent_assay.worlds import World

LR = 3e-3


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a family is trained in."""

    d_in: int
    """Length of the activations."""
    features: int
    """Number of true features."""
    l0: float
    """How many of them fire on average."""
    steps: int
    """Training steps."""
    seed: int
    """The draw."""

    def widths(self, *shares: float) -> list[int]:
        """Widths as shares of the number of features, narrow to wide."""
        return [max(2, round(share * self.features)) for share in shares]

    def seeds(self, members: int) -> list[int]:
        """A seed for each member."""
        return [100 * self.seed + member for member in range(members)]


@dataclass(frozen=True, kw_only=True)
class Family:
    """A recipe with its settings; its members differ in width, sparsity and seed."""

    name: str
    """Its name in tables."""
    make: Callable[[Setting], Recipe]
    """Builds it."""

    def recipe(self, world: World, l0: float, seed: int, steps: int) -> Recipe:
        """The recipe for a world."""
        return self.make(
            Setting(d_in=world.d_in, features=world.n_features, l0=l0, steps=steps, seed=seed)
        )


def _relu(sparsity: tuple[float, ...], shares: tuple[float, ...]) -> Callable[[Setting], Recipe]:
    return lambda at: relu_l1(
        d_in=at.d_in,
        width=at.widths(*shares),
        l1=sparsity,
        seeds=at.seeds(len(shares)),
        lr=LR,
    )


def _topk(more: tuple[int, ...], shares: tuple[float, ...]) -> Callable[[Setting], Recipe]:
    return lambda at: topk(
        d_in=at.d_in,
        width=at.widths(*shares),
        k=[max(1, round(at.l0) + each) for each in more],
        seeds=at.seeds(len(shares)),
        lr=LR,
    )


def _batchtopk(
    factors: tuple[float, ...], shares: tuple[float, ...]
) -> Callable[[Setting], Recipe]:
    return lambda at: batchtopk(
        d_in=at.d_in,
        width=at.widths(*shares),
        k=[at.l0 * each for each in factors],
        seeds=at.seeds(len(shares)),
        lr=LR,
    )


def _jumprelu(factors: tuple[float, ...], shares: tuple[float, ...]) -> Callable[[Setting], Recipe]:
    return lambda at: jumprelu(
        d_in=at.d_in,
        width=at.widths(*shares),
        target_l0=[at.l0 * each for each in factors],
        bandwidth=0.1,
        threshold=0.1,
        seeds=at.seeds(len(shares)),
        lr=LR,
        sparsity_warm_up_steps=at.steps // 4,
    )


def _tied(sparsity: tuple[float, ...], shares: tuple[float, ...]) -> Callable[[Setting], Recipe]:
    return lambda at: tied(
        d_in=at.d_in,
        width=at.widths(*shares),
        l1=sparsity,
        seeds=at.seeds(len(shares)),
        lr=LR,
    )


def _matryoshka(
    sparsity: tuple[float, ...], share: float, inner: float
) -> Callable[[Setting], Recipe]:
    def make(at: Setting) -> Recipe:
        (width,) = at.widths(share)
        return matryoshka(
            d_in=at.d_in,
            width=width,
            levels=(max(1, round(inner * width)), width),
            l1=sparsity,
            seeds=at.seeds(len(sparsity)),
            lr=LR,
        )

    return make


def _matryoshka_batchtopk(
    factors: tuple[float, ...], share: float, inner: float
) -> Callable[[Setting], Recipe]:
    def make(at: Setting) -> Recipe:
        (width,) = at.widths(share)
        return matryoshka_batchtopk(
            d_in=at.d_in,
            width=width,
            levels=(max(1, round(inner * width)), width),
            k=[at.l0 * each for each in factors],
            seeds=at.seeds(len(factors)),
            lr=LR,
        )

    return make


RECIPES_TO_FIT: tuple[Family, ...] = (
    Family(name="relu_l1", make=_relu((0.03, 0.06, 0.06, 0.1), (0.5, 0.8, 1.0, 1.5))),
    Family(name="batchtopk", make=_batchtopk((0.8, 1.0, 1.0, 1.2), (0.5, 0.75, 1.0, 1.5))),
    Family(name="jumprelu", make=_jumprelu((0.8, 1.0, 1.0, 1.1), (0.5, 0.75, 1.0, 1.4))),
    Family(name="tied", make=_tied((0.03, 0.03, 0.03, 0.06), (0.5, 0.8, 1.0, 1.5))),
    Family(name="topk", make=_topk((0, 0, 1, 1), (0.6, 1.0, 1.0, 1.5))),
    Family(name="matryoshka", make=_matryoshka((0.03, 0.06, 0.1), 1.0, 0.4)),
)
"""What is trained in worlds to fit on."""

RECIPES_HELD_OUT: tuple[Family, ...] = (
    Family(name="relu_l1", make=_relu((0.04, 0.08, 0.05, 0.08), (0.6, 0.9, 1.05, 1.35))),
    Family(name="batchtopk", make=_batchtopk((0.9, 1.0, 1.1, 1.1), (0.65, 0.85, 1.05, 1.3))),
    Family(name="jumprelu", make=_jumprelu((0.9, 0.9, 1.05, 1.0), (0.6, 0.85, 1.05, 1.3))),
    Family(name="tied", make=_tied((0.04, 0.05, 0.04, 0.05), (0.65, 0.9, 1.0, 1.3))),
    Family(name="topk", make=_topk((0, 1, 0, 1), (0.7, 0.9, 1.1, 1.4))),
    Family(name="matryoshka_batchtopk", make=_matryoshka_batchtopk((0.9, 1.0, 1.2), 1.1, 0.5)),
)
"""What is trained in worlds held out: other widths, other sparsities, another nested recipe."""
