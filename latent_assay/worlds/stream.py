"""An endless stream of batches from a world, one for each seed."""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.errors import ConfigError


class Stream(Iterator[Float[Tensor, "*member batch d_in"]]):
    """Batches of activations without end, reproducible and resumable.

    With one seed each batch is `[batch, d_in]`. With a sequence of seeds it is
    `[member, batch, d_in]`, and each member's slice is, bit for bit, the stream of its seed alone:
    every member draws with a generator of its own.

    **Arguments:**
    - `draw`: given a number of samples and a generator, draws activations `[n, d_in]`.
    - `device`: where it draws, and so where the generators live.
    - `batch_size`: samples in a batch, for each member.
    - `seeds`: one seed, or one for each member.

    **Raises:** `ConfigError` if the batch is empty or a seed is out of range.
    """

    def __init__(
        self,
        draw: Callable[[int, torch.Generator], Tensor],
        device: torch.device,
        batch_size: int,
        *,
        seeds: int | Sequence[int] = 0,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"`batch_size` is {batch_size}, but a batch has at least one sample.")
        self.draw = draw
        self.device = device
        self.batch_size = batch_size
        self.alone = isinstance(seeds, int)
        self.seeds = (seeds,) if isinstance(seeds, int) else tuple(int(seed) for seed in seeds)
        if not self.seeds or not all(0 <= seed < 2**63 for seed in self.seeds):
            raise ConfigError(
                f"`seeds` is {seeds!r}, but each seed must lie from 0 to 2^63 - 1, and there must "
                "be at least one. Pass a number, or a sequence with one for each member."
            )
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in self.seeds]

    def __next__(self) -> Float[Tensor, "*member batch d_in"]:
        """The next batch."""
        # Each member is computed by itself and then copied: a batched product may round otherwise.
        drawn = [self.draw(self.batch_size, each) for each in self.generators]
        return drawn[0] if self.alone else torch.stack(drawn)

    def state_dict(self) -> dict[str, Tensor]:
        """Where the stream is, so that another may go on from there, bit for bit."""
        return {
            "seeds": torch.tensor(self.seeds, dtype=torch.int64),
            "batch_size": torch.tensor(self.batch_size),
            "generators": torch.stack([each.get_state() for each in self.generators]),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from where another stream was.

        **Arguments:**
        - `state`: what `state_dict` of a stream of the same world, seeds and batch size returned.

        **Raises:** `ConfigError` if it was another stream's, or one on another kind of device;
        this stream is then where it was.
        """
        missing = {"seeds", "batch_size", "generators"} - set(state)
        if missing:
            raise ConfigError(
                f"the stream's state lacks {sorted(missing)}. Pass what `state_dict` returned."
            )
        seeds, batch_size = tuple(state["seeds"].tolist()), int(state["batch_size"])
        if seeds != self.seeds or batch_size != self.batch_size:
            raise ConfigError(
                f"the state is that of a stream with seeds {seeds} and batch size {batch_size}, "
                f"but this one has seeds {self.seeds} and batch size {self.batch_size}. "
                "Make the stream as it was made then."
            )
        found, own = state["generators"], torch.stack([g.get_state() for g in self.generators])
        if found.shape != own.shape or found.dtype != own.dtype:
            raise ConfigError(
                f"the state holds generators of shape {tuple(found.shape)}, but those of this "
                f"device ({self.device}) have {tuple(own.shape)}. "
                "Resume on the kind of device that the stream was made on."
            )
        for generator, saved in zip(self.generators, found.cpu(), strict=True):
            # A clone: `set_state` reads the memory of a row of a matrix from the wrong place.
            generator.set_state(saved.clone())
