"""A world whose true features are known."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import embedding_bag

from latent_assay.errors import AssayError, ConfigError, FormatError, ShapeError, WorldError
from latent_assay.worlds.directions import given
from latent_assay.worlds.enumeration import Enumeration
from latent_assay.worlds.firing import PATTERN_LIMIT, Firing, SparseFiring
from latent_assay.worlds.magnitudes import Constant, Magnitudes
from latent_assay.worlds.portrait import portrait
from latent_assay.worlds.statistics import Statistics, firing_statistics
from latent_assay.worlds.storage import read_world, write_world
from latent_assay.worlds.stream import Stream


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Activations with the truth behind them."""

    x: Float[Tensor, "n d_in"]
    """What an SAE reads."""
    firing: Bool[Tensor, "n feature"]
    """Which features fire."""
    magnitudes: Float[Tensor, "n feature"]
    """How strongly; 0 for silent features."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseSample:
    """A sample whose truth is listed rather than laid out: as large as what fires."""

    x: Float[Tensor, "n d_in"]
    """What an SAE reads."""
    firing: SparseFiring
    """Which features fire."""
    magnitudes: Float[Tensor, " firing"]
    """How strongly, firing by firing."""

    def dense(self) -> Sample:
        """The same sample with its truth laid out."""
        firing = self.firing.dense()
        magnitudes = torch.zeros(
            firing.shape, dtype=self.magnitudes.dtype, device=self.magnitudes.device
        )
        magnitudes.view(-1)[self.firing.cells] = self.magnitudes
        return Sample(x=self.x, firing=firing, magnitudes=magnitudes)


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    r"""Directions × firing × magnitudes.

    $$x = \sum_i a_i m_i f_i + b$$

    where the firing law draws $a \in \{0, 1\}^n$, the magnitude law $m_i$, and $f_i$ is the
    direction of feature $i$. Tensors come in the dtype and on the device of the directions; `to`
    makes the same world elsewhere. A world never changes.

    **Raises:** `WorldError` if the parts are for different numbers of features or not finite,
    `ShapeError` if a tensor does not fit.

    >>> from latent_assay.worlds import Independent, directions
    >>> generator = torch.Generator().manual_seed(0)
    >>> world = World(
    ...     directions=directions.orthonormal(3, 8, generator),
    ...     firing=Independent(rates=[0.5, 0.25, 0.25]),
    ... )
    >>> world.sample(100, generator).x.shape
    torch.Size([100, 8])
    >>> world.true_l0()
    1.0
    """

    directions: Float[Tensor, "feature d_in"]
    """The true features, one a row."""
    firing: Firing
    """Which of them fire together."""
    magnitudes: Magnitudes = field(default_factory=Constant)
    """How strongly."""
    bias: Float[Tensor, " d_in"] | None = None
    """What is added to every activation."""

    def __post_init__(self) -> None:
        directions = given(self.directions)
        n, d_in = directions.shape
        if self.firing.n_features != n:
            raise WorldError(
                f"there are {n} directions but the firing law is for {self.firing.n_features} "
                "features. Give one direction for each feature."
            )
        if self.magnitudes.n_features not in (None, n):
            raise WorldError(
                f"there are {n} directions but magnitudes for {self.magnitudes.n_features} "
                "features. Give one for each feature, or a single number."
            )
        bias = self.bias
        if bias is not None:
            bias = torch.as_tensor(bias).detach()
            if bias.shape != (d_in,):
                raise ShapeError(
                    f"`bias` has shape {tuple(bias.shape)}, but activations have d_in {d_in}."
                )
            if not bias.isfinite().all():
                raise WorldError("`bias` holds NaN or infinity; every entry must be finite.")
            bias = bias.to(directions.device, directions.dtype, copy=True)
        object.__setattr__(self, "directions", directions)
        object.__setattr__(self, "bias", bias)

    @property
    def features(self) -> Float[Tensor, "feature d_in"]:
        """The true features: the directions."""
        return self.directions

    @property
    def n_features(self) -> int:
        """Number of features."""
        return self.directions.shape[0]

    @property
    def d_in(self) -> int:
        """Length of an activation."""
        return self.directions.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the world samples."""
        return self.directions.device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of its activations."""
        return self.directions.dtype

    @property
    def parents(self) -> tuple[int | None, ...]:
        """Each feature's parent: the one that fires whenever it does; None where there is none."""
        return self.firing.forest.parents

    @property
    def sparse(self) -> bool:
        """Whether the world draws only what fires: it is large and most of it is silent.

        `Firing.sparse` has the rule, which does not depend on the machine.
        """
        return self.firing.sparse

    @property
    def finite(self) -> bool:
        """Whether the world can be enumerated, memory permitting."""
        return not self._obstacles()

    def to(
        self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "World":
        """The same world on another device or in another precision."""
        bias = self.bias
        return World(
            directions=self.directions.to(device=device, dtype=dtype),
            firing=self.firing,
            magnitudes=self.magnitudes,
            bias=None if bias is None else bias.to(device=device, dtype=dtype),
        )

    def sample(self, n: int, generator: torch.Generator) -> Sample:
        """Draw `n` independent activations with their truth.

        A small world draws a number for every feature. One that is `sparse` draws what
        `sample_sparse` draws; the law of the samples is the same.

        **Arguments:**
        - `n`: number of samples.
        - `generator`: source of randomness, on the device of the world. Equal generators draw
          equal samples.

        **Returns:** activations, firing and magnitudes.

        **Raises:** `ConfigError` if `n` is negative or the generator lies on another device.
        """
        drawn = self._drawn(n, generator)
        return drawn.dense() if isinstance(drawn, SparseSample) else drawn

    def sample_sparse(self, n: int, generator: torch.Generator) -> SparseSample:
        """Draw `n` independent activations, with their truth as a list of what fires.

        The law is that of `sample`, in any world. The cost is that of the features that the
        firing law looks at (`Firing.sparse_cost`), and of adding up the directions that fire. For
        a Gaussian copula the product of its factor comes on top, for each feature it couples.

        **Arguments:** as for `sample`.

        **Raises:** `ConfigError` as `sample` does.
        """
        self._check(n, generator)
        firing = self.firing.sample_sparse(n, generator)
        features = firing.features
        magnitudes = self.magnitudes.sample_sparse(
            features, self.n_features, generator, self.directions.dtype
        )
        x = embedding_bag(
            features,
            self.directions,
            firing.starts,
            mode="sum",
            per_sample_weights=magnitudes,
            include_last_offset=True,
        )
        if self.bias is not None:
            x += self.bias
        return SparseSample(x=x, firing=firing, magnitudes=magnitudes)

    def stream(
        self,
        batch_size: int,
        *,
        seeds: int | Sequence[int] = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Stream:
        """An endless iterator over batches of activations, ready for training.

        **Arguments:**
        - `batch_size`: samples in a batch.
        - `seeds`: one seed for batches `[batch, d_in]`; a sequence for `[member, batch, d_in]`,
          where each member's slice is bit for bit the stream of its seed alone.
        - `device`, `dtype`: of the batches, if not those of the world.

        **Raises:** `ConfigError` if the batch is empty or a seed is out of range.
        """
        moved = device is not None or dtype is not None
        world = self.to(device=device, dtype=dtype) if moved else self
        return Stream(
            lambda n, generator: world._drawn(n, generator).x,
            world.device,
            batch_size,
            seeds=seeds,
        )

    def enumerate(
        self, *, limit: int = PATTERN_LIMIT, dtype: torch.dtype | None = None
    ) -> Enumeration:
        """Every activation that can occur, once for each firing pattern, with its probability.

        **Arguments:**
        - `limit`: the greatest number of patterns that may be built.
        - `dtype`: of the result, if not that of the world. Probabilities are computed in float64
          whatever it is.

        **Returns:** the patterns, on the device of the world.

        **Raises:** `WorldError` if the world is not finite, naming what prevents it, or has more
        patterns than `limit`.
        """
        obstacles = self._obstacles()
        if obstacles:
            raise WorldError(
                f"this world cannot be enumerated: {'; '.join(obstacles)}. "
                "Sample it instead, or choose a finite firing law and constant magnitudes."
            )
        patterns = self.firing.patterns(limit)
        dtype = dtype or self.dtype
        firing = patterns.firing.to(self.device)
        magnitudes = firing * self.magnitudes.constants(self.n_features).to(self.device, dtype)
        world = self.to(dtype=dtype)
        return Enumeration(
            firing=firing,
            magnitudes=magnitudes,
            x=world._activation(magnitudes),
            probability=patterns.probability.to(self.device, dtype),
        )

    def true_l0(self, n: int | None = None, generator: torch.Generator | None = None) -> float:
        """Mean number of firing features.

        Exact where the rates are known, or follow from enumerable firing; otherwise measured.

        **Arguments:**
        - `n`, `generator`: samples to measure it on, used only if it is not known exactly.

        **Raises:** `WorldError` if it must be measured and these were not given.
        """
        rates = self.firing.marginals
        if rates is not None:
            return rates.sum().item()
        if self.firing.why_not_finite is None:
            return firing_statistics(self.firing, pairwise=False).l0
        if n is None or generator is None:
            raise WorldError(
                f"the true L0 of this world is not known exactly ({self.firing.why_not_finite}). "
                "Pass `n` and `generator` to measure it."
            )
        return firing_statistics(self.firing, n, generator, pairwise=False).l0

    def statistics(
        self,
        n: int | None = None,
        generator: torch.Generator | None = None,
        *,
        pairwise: bool = True,
    ) -> Statistics:
        """Firing rates, correlations and parent-child rates.

        **Arguments:**
        - `n`: number of samples to measure them on; None for exact values from the enumeration
          (the firing must be finite; magnitudes do not matter).
        - `generator`: source of randomness, needed with `n`.
        - `pairwise`: whether to count every pair, a feature × feature matrix.

        **Raises:** `WorldError` if exact values are asked for and there are none, `ConfigError`
        if `n` comes without a generator.
        """
        return firing_statistics(self.firing, n, generator, pairwise=pairwise)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `world.json` and `world.safetensors`, wholly or not at all.

        **Raises:** `StorageError` if the disk refuses, or if the folder holds something else.
        """
        write_world(
            folder,
            directions=self.directions,
            firing=self.firing,
            magnitudes=self.magnitudes,
            bias=self.bias,
        )

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> "World":
        """Read a world that was saved; it draws the same samples, bit for bit.

        **Arguments:**
        - `folder`: what was given to `save`.
        - `device`: where to put it.

        **Raises:** `FormatError` if there is no world or it cannot be understood.
        """
        parts = read_world(folder)
        try:
            return cls(**parts).to(device=device)
        except AssayError as error:
            raise FormatError(
                f"'{os.fspath(folder)}' does not describe a world: {error} "
                "The file is damaged or was changed; save the world again."
            ) from error

    def __str__(self) -> str:
        return portrait(self.directions, self.firing, self.magnitudes, self.bias)

    def __repr__(self) -> str:
        return (
            f"<World of {self.n_features} features in {self.d_in} dimensions: "
            f"{self.firing.summary}; magnitudes {self.magnitudes.summary}>"
        )

    def _drawn(self, n: int, generator: torch.Generator) -> Sample | SparseSample:
        """What `sample` draws, its truth as it comes."""
        if self.sparse:
            return self.sample_sparse(n, generator)
        self._check(n, generator)
        firing = self.firing.sample(n, generator)
        magnitudes = self.magnitudes.sample(firing, generator, self.directions.dtype)
        return Sample(x=self._activation(magnitudes), firing=firing, magnitudes=magnitudes)

    def _activation(self, magnitudes: Float[Tensor, "n feature"]) -> Float[Tensor, "n d_in"]:
        if self.bias is None:
            return magnitudes @ self.directions
        return torch.addmm(self.bias, magnitudes, self.directions)

    def _obstacles(self) -> list[str]:
        reasons = (self.magnitudes.why_not_finite, self.firing.why_not_finite)
        return [reason for reason in reasons if reason is not None]

    def _check(self, n: int, generator: torch.Generator) -> None:
        if n < 0:
            raise ConfigError(f"`n` is {n}, but a number of samples is not negative.")
        own, other = self.directions.device, generator.device
        # `cuda` and `cuda:0` may be the same device; anything else that differs is a mistake
        if own != other and (own.type != other.type or own.index != (other.index or 0)):
            raise ConfigError(
                f"the generator lies on {other} but the world on {own}. "
                f"Draw with torch.Generator('{own}'), or move the world with `to`."
            )
