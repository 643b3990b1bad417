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
from jaxtyping import Float, Float64
from torch import Tensor

from latent_assay.batch import WeightedBatch
from latent_assay.errors import ConfigError
from latent_assay.worlds import World

_AT_ONCE = 64
"""Batches whose counts are drawn together: a small draw costs more to call than to make."""


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
        self._start = self._generator_states()
        self._block: Float[Tensor, "step *member pattern"] | None = None
        self._position = 0

    def __next__(self) -> WeightedBatch:
        """Patterns with the share of the batch that each makes up."""
        if self._block is None or self._position == _AT_ONCE:
            self._start, self._position = self._generator_states(), 0
            self._block = self._draw()
        weight = self._block[self._position]
        self._position += 1
        return WeightedBatch(self.x, weight, self.batch_size)

    def _draw(self) -> Float[Tensor, "step *member pattern"]:
        """The shares of many batches; every member draws with a generator of its own."""
        draw = counts_in_turn if 8 * len(self.probability) <= self.batch_size else counts_of_draws
        counts = [
            draw(self.probability, self.batch_size, _AT_ONCE, generator)
            for generator in self.generators
        ]
        shares = (torch.stack(counts, dim=1) / self.batch_size).to(self.x.dtype)
        return shares[:, 0] if self.shared else shares

    def _generator_states(self) -> Tensor:
        return torch.stack([each.get_state() for each in self.generators])

    def state_dict(self) -> dict[str, Tensor]:
        """Where the generators were when they last drew, and how much of that is used up."""
        return {"generators": self._start, "position": torch.tensor(self._position)}

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
        self._start, self._position = self._generator_states(), int(state["position"])
        self._block = self._draw() if self._position else None


def counts_in_turn(
    probability: Float64[Tensor, " pattern"], n: int, times: int, generator: torch.Generator
) -> Float64[Tensor, "times pattern"]:
    r"""How often each pattern occurs among n samples, from a binomial for each pattern.

    $$n_k \sim Binomial\Big(n - \sum_{j<k} n_j,\ P_k \Big/ \sum_{j \ge k} P_j\Big)$$

    The law is the multinomial one; the cost does not depend on n.
    """
    left = torch.full((times,), float(n), dtype=torch.float64, device=probability.device)
    rest = probability.flip(0).cumsum(0).flip(0)
    chance = torch.where(rest > 0, probability / rest, 0.0).clamp_max(1)
    counts = []
    for each in chance[:-1]:
        drawn = torch.binomial(left, each.expand(times), generator=generator)
        counts.append(drawn)
        left = left - drawn
    return torch.stack([*counts, left], dim=1)


def counts_of_draws(
    probability: Float64[Tensor, " pattern"], n: int, times: int, generator: torch.Generator
) -> Float64[Tensor, "times pattern"]:
    """The same by drawing n samples: better where there are many patterns."""
    rows = []
    for _ in range(times):
        drawn = probability.multinomial(n, replacement=True, generator=generator)
        rows.append(torch.bincount(drawn, minlength=len(probability)).to(torch.float64))
    return torch.stack(rows)
