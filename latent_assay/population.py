r"""Training on a finite world itself instead of on samples of it.

A finite world is a list of patterns $x_k$ with probabilities $P_k$, so the expected loss is a sum:

$$E\,\ell(x) = \sum_k P_k\,\ell(x_k)$$

`population` yields exactly that: its gradient is the mean of all sampled gradients, without noise.
`minibatches` yields what a batch of $B$ samples would be, at a fraction of the cost: which patterns
occurred how often, drawn from the multinomial distribution. Both feed `fit` and work with every
sparsifier. **Ties:** for BatchTopK all entries equal to the threshold fire, so a pattern that
stands for many samples fires in all of them or in none.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.batch import WeightedBatch
from latent_assay.errors import ConfigError
from latent_assay.worlds import World


def population(world: World, *, dtype: torch.dtype = torch.float32) -> "Population":
    """Every pattern of a finite world with its probability, again and again.

    **Arguments:**
    - `world`: its magnitudes must be constant and its firing finite.
    - `dtype`: of the batches; patterns are enumerated in float64.

    **Raises:** `WorldError` naming the property that makes the world infinite.
    """
    return Population(world, dtype=dtype)


def minibatches(
    world: World,
    batch_size: int,
    *,
    seeds: int | Sequence[int] = 0,
    dtype: torch.dtype = torch.float32,
) -> "Minibatches":
    r"""The counts of each pattern in batches of `batch_size` samples.

    $$(n_1, \dots, n_K) \sim Multinomial(B; P_1, \dots, P_K), \qquad w_k = n_k / B$$

    This is the distribution of a batch of B samples, sorted by pattern.

    **Arguments:**
    - `world`: as in `population`.
    - `batch_size`: B.
    - `seeds`: one for a batch that all members share, or one for each member; the counts of a
      member do not depend on how many others there are.
    - `dtype`: of the batches.

    **Raises:** `WorldError` naming the property that makes the world infinite; `ConfigError` for
    a batch without samples.
    """
    return Minibatches(world, batch_size, seeds=seeds, dtype=dtype)


class Population(Iterator[WeightedBatch]):
    """An endless iterator over one and the same weighted batch; see `population`."""

    def __init__(self, world: World, *, dtype: torch.dtype):
        enumeration = world.enumerate(dtype=torch.float64)
        self.batch = WeightedBatch(
            x=enumeration.x.to(dtype), weight=enumeration.probability.to(dtype)
        )

    def __next__(self) -> WeightedBatch:
        """The whole world."""
        return self.batch

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing: every batch is the same."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Nothing to restore."""


class Minibatches(Iterator[WeightedBatch]):
    """An endless, resumable iterator over counts of patterns; see `minibatches`."""

    def __init__(
        self, world: World, batch_size: int, *, seeds: int | Sequence[int], dtype: torch.dtype
    ):
        if batch_size < 1:
            raise ConfigError(f"`batch_size` is {batch_size}; a batch has at least one sample.")
        enumeration = world.enumerate(dtype=torch.float64)
        self.x = enumeration.x.to(dtype)
        self.probability = enumeration.probability / enumeration.probability.sum()
        self.batch_size = batch_size
        self.shared = isinstance(seeds, int)
        self.seeds = (seeds,) if isinstance(seeds, int) else tuple(seeds)
        self.generators = [torch.Generator(self.x.device).manual_seed(seed) for seed in self.seeds]

    def __next__(self) -> WeightedBatch:
        """Patterns with the share of the batch that each makes up."""
        counts = torch.stack([self._counts(each) for each in self.generators])
        weight = (counts / self.batch_size).to(self.x.dtype)
        return WeightedBatch(self.x, weight[0] if self.shared else weight, self.batch_size)

    def _counts(self, generator: torch.Generator) -> Float[Tensor, " pattern"]:
        drawn = self.probability.multinomial(self.batch_size, replacement=True, generator=generator)
        return torch.bincount(drawn, minlength=len(self.probability)).to(torch.float64)

    def state_dict(self) -> dict[str, Tensor]:
        """Where the generators are."""
        return {"generators": torch.stack([each.get_state() for each in self.generators])}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on where another iterator over the same world and seeds stopped."""
        saved = state["generators"]
        if saved.shape[0] != len(self.generators):
            raise ConfigError(
                f"the saved state has {saved.shape[0]} generators, but there are "
                f"{len(self.generators)} seeds; use the seeds of then."
            )
        for generator, each in zip(self.generators, saved, strict=True):
            generator.set_state(each.clone())
