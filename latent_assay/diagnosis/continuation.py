"""Continuing the training of an SAE: as it is and extended, in lockstep on the same batches."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latent_assay.batch import Batch, WeightedBatch
from latent_assay.diagnosis.penalty_floor import with_penalty_floor
from latent_assay.errors import ConfigError
from latent_assay.extension import extend
from latent_assay.history import History
from latent_assay.losses import Objective
from latent_assay.sae import SAE, stack
from latent_assay.tracking import Tracker
from latent_assay.training import TrainingConfig, fit

ObjectiveFactory = Callable[[SAE], Objective]
"""Makes the objective for an SAE, of whose `members`, `width` and `widths` it may depend."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Both:
    """An SAE trained on in two ways, on the same batches."""

    control: SAE
    """As it was."""
    extended: SAE
    """With new latents behind its own."""
    history: History
    """What training logged: the control's members first, then the extended ones."""


def continue_both(
    sae: SAE,
    objective: ObjectiveFactory,
    batches: Iterable[Batch],
    config: TrainingConfig,
    *,
    n: int,
    generators: torch.Generator | Sequence[torch.Generator],
    norm: float | None = None,
    threshold: float | None = None,
    penalty_floor: float = math.inf,
    folder: str | Path | None = None,
    resume: bool = True,
    trackers: Sequence[Tracker] = (),
    progress: bool = True,
) -> Both:
    """Train an SAE on, as it is and extended by n latents, side by side on the same batches.

    Both are members of one ensemble, the control padded to the extended width. A member trained in
    company equals the same member trained alone, so the control is what it would be without the
    extended one; the two differ by the new latents and by nothing else, not even by the noise of
    batches.

    **Arguments:**
    - `sae`: where both begin; left as it is.
    - `objective`, `batches`, `config`, `penalty_floor`, `folder`, `resume`, `trackers`, `progress`:
      as in `continue_together`.
    - `n`, `generators`, `norm`, `threshold`: as in `extend`.

    **Raises:** as `extend` and `fit`.
    """
    more = extend(sae, n, generators, norm=norm, threshold=threshold)
    (control, extended), history = continue_together(
        [sae, more],
        objective,
        batches,
        config,
        penalty_floor=penalty_floor,
        folder=folder,
        resume=resume,
        trackers=trackers,
        progress=progress,
    )
    return Both(control=control, extended=extended, history=history)


def continue_together(
    saes: Sequence[SAE],
    objective: ObjectiveFactory,
    batches: Iterable[Batch],
    config: TrainingConfig,
    *,
    penalty_floor: float = math.inf,
    folder: str | Path | None = None,
    resume: bool = True,
    trackers: Sequence[Tracker] = (),
    progress: bool = True,
) -> tuple[list[SAE], History]:
    """Train several SAEs of equally many members on, in lockstep on the same batches.

    With one SAE this continues it alone. Twice, with independent batches, it gives the null of
    `hedging_degree`: what its formula finds between two continuations of the same SAE.

    **Arguments:**
    - `saes`: where they begin; left as they are.
    - `objective`: makes the objective for all of them stacked: members of the first SAE, then of
      the second, and so on; widths padded to the largest. Values by member must be repeated for
      each SAE.
    - `batches`: `[batch, d_in]` for all, or `[member, batch, d_in]` with one batch for each member
      of an SAE, given to that member of every SAE.
    - `config`: how to train; values by member count the members of one SAE.
    - `penalty_floor`: $\\lambda_{min}$, see `with_penalty_floor`; by default penalties do not warm
      up again.
    - `folder`, `resume`, `trackers`, `progress`: as in `fit`.

    **Returns:** the trained SAEs in the same order, without padding, and what was logged.

    **Raises:** `ConfigError` unless the SAEs can be stacked and have equally many members; else as
    `fit`.
    """
    counts = {sae.members for sae in saes}
    if len(counts) != 1:
        raise ConfigError(
            f"SAEs that continue together must have equally many members, got {sorted(counts)}."
        )
    members, times = counts.pop(), len(saes)
    company = stack(saes)
    history = fit(
        company,
        with_penalty_floor(objective(company), penalty_floor),
        _Shared(batches, members, times),
        replace(
            config,
            lr=_repeated(config.lr, times),
            clip=_repeated(config.clip, times),
        ),
        folder=folder,
        resume=resume,
        trackers=trackers,
        progress=progress,
    )
    taken = [company.take(range(i * members, (i + 1) * members)) for i in range(times)]
    return taken, history


class _Shared:
    """Batches with one slice per member, repeated for every SAE; shared ones as they are.

    Has `state_dict` and `load_state_dict` if the batches have them.
    """

    def __init__(self, batches: Iterable[Batch], members: int, times: int):
        self.batches = batches
        self.members = members
        self.times = times

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.batches:
            if isinstance(batch, WeightedBatch):
                yield batch._replace(
                    x=self._for_all(batch.x, 3), weight=self._for_all(batch.weight, 2)
                )
            else:
                yield self._for_all(batch, 3)

    def _for_all(self, tensor: Tensor, axes: int) -> Tensor:
        by_member = tensor.dim() == axes and tensor.shape[0] == self.members
        return tensor.repeat(self.times, *[1] * (axes - 1)) if by_member else tensor

    def __getattr__(self, name: str) -> Any:
        # `fit` asks whether there is a place in the stream to be saved and found again
        if name in ("state_dict", "load_state_dict"):
            return getattr(self.batches, name)
        raise AttributeError(name)


def _repeated(value: Any, times: int) -> Any:
    return value if isinstance(value, int | float) else [*value] * times
