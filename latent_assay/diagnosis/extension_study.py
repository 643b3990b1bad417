"""The whole experiment: train SAEs, train them on with and without new latents, compare."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from latent_assay.batch import Batch, WeightedBatch
from latent_assay.diagnosis.continuation import continue_together
from latent_assay.errors import ConfigError, DataError
from latent_assay.extension import extend
from latent_assay.history import History
from latent_assay.losses import Objective
from latent_assay.measurement import measure
from latent_assay.metrics.hedging_degree import HedgingDegree, change_in_span, hedging_degree
from latent_assay.recipes import Recipe
from latent_assay.sae import SAE
from latent_assay.training import TrainingConfig, fit

MakeRecipe = Callable[[Sequence[int], Sequence[int]], Recipe]
"""(width of each member, seed of each member) → SAEs, objective and config for them.

Called with a width for each seed for the first phase, and once more with the widths and seeds of
control and extended members, for the objective of the second. All members begin at the same width;
a recipe that takes one width for all is given `max(widths)`:

    lambda widths, seeds: recipes.batchtopk(d_in=384, width=widths, k=25, seeds=seeds)
"""

MakeBatches = Callable[[int], Iterable[Batch]]
"""seed → an endless stream of batches, independent of those of other seeds."""

HeldOut = Callable[[], Iterable[Tensor]]
"""() → held-out activations, a new iterator each time."""


# How far the firing of new latents is followed: enough samples, but not many tiny batches.
_SAMPLES, _BATCHES = 20_000, 200


@dataclass(frozen=True, kw_only=True)
class ExtensionConfig:
    """How the experiment goes."""

    n: int = 64
    """Latents that an SAE is extended by."""
    first_steps: int = 10_000
    """Steps of the first phase."""
    steps: int = 10_000
    """Steps of the second, which control and extended SAE share."""
    norm: float | None = None
    """Length of new rows; None as in `extend`."""
    penalty_floor: float = math.inf
    """The least sparsity penalty in the second phase, where it warms up again; see
    `with_penalty_floor`."""
    baselines: int = 50
    """Random subspaces for the metric."""
    seed: int = 0
    """Of batches, new latents and random subspaces."""

    def __post_init__(self) -> None:
        for name in ("n", "first_steps", "steps", "baselines"):
            if getattr(self, name) < 1:
                raise ConfigError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.seed < 0:
            raise ConfigError(f"`seed` must not be negative, got {self.seed}.")


@dataclass(frozen=True, kw_only=True, eq=False)
class ExtensionNumbers:
    """What was measured when the SAEs of one setting were extended, one member for each seed."""

    width: int
    """Before they were extended."""
    n: int
    """Latents that they were extended by."""
    degree: HedgingDegree
    """Their hedging degree."""
    null: HedgingDegree
    """The same formula between the control and a second continuation without new latents, on
    independent batches: what training noise alone has within the span of the same new latents."""
    new_density: Float64[Tensor, "member new"]
    """Share of a sample of the second phase's batches on which each new latent fires. To latents
    that never fire nothing can be handed over, and the degree then says nothing."""
    metrics: Mapping[str, Float64[Tensor, " member"]]
    """What the control does on held-out activations, by name in `METRICS`; empty without any."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ExtensionOutcome(ExtensionNumbers):
    """What came of extending the SAEs of one setting: the numbers, and the SAEs."""

    control: SAE
    """Trained on as they were."""
    extended: SAE
    """Trained on with new latents, on the same batches."""


def hedging_degree_study(
    make: MakeRecipe,
    widths: Sequence[int],
    batches: MakeBatches,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    config: ExtensionConfig | None = None,
    held_out: HeldOut | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> dict[int, ExtensionOutcome]:
    """The hedging degree of SAEs of several widths, each beside its null.

    **Arguments:**
    - `make`: see `MakeRecipe`; its training config is used in both phases, but for the steps.
    - `widths`: of the SAEs before they are extended.
    - `batches`: see `MakeBatches`. Three streams are opened for each width: one for the first
      phase, one that control and extended SAE share, one for the null. A stream over stored
      activations gives the same rows in another order, so the null lacks the noise of sampling
      text once the store has been read through.
    - `seeds`: one member each.
    - `config`: how the experiment goes.
    - `held_out`: activations on which to measure the control; None leaves that out.
    - `folder`: where checkpoints go, `width_W/first`, `width_W/both` and `width_W/again`. The
      same call continues an interrupted study.
    - `progress`: whether to show bars.

    **Returns:** width → outcome. Control and extended SAEs of all widths stay in memory.

    **Raises:** `ConfigError` for a width that occurs twice, or none; else as `fit`.
    """
    if not widths or len(set(widths)) != len(widths):
        raise ConfigError(f"`widths` must be different widths, at least one, got {list(widths)}.")
    return {
        width: extension_outcome(
            make,
            width,
            batches,
            seeds=seeds,
            config=config,
            held_out=held_out,
            folder=None if folder is None else Path(folder) / f"width_{width}",
            progress=progress,
        )
        for width in widths
    }


def extension_outcome(
    make: MakeRecipe,
    width: int,
    batches: MakeBatches,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    config: ExtensionConfig | None = None,
    held_out: HeldOut | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> ExtensionOutcome:
    """The experiment at one width: a point of a sweep over L0 or layers.

    **Arguments:** as of `hedging_degree_study`, which runs this for several widths.
    """
    config = config or ExtensionConfig()
    found = outcomes_by_n(
        make,
        width,
        batches,
        (config.n,),
        seeds=seeds,
        config=config,
        held_out=held_out,
        folder=folder,
        progress=progress,
    )
    return found[config.n]


def outcomes_by_n(
    make: MakeRecipe,
    width: int,
    batches: MakeBatches,
    ns: Sequence[int],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    config: ExtensionConfig | None = None,
    held_out: HeldOut | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> dict[int, ExtensionOutcome]:
    """The experiment with several numbers of new latents, all beside one and the same control.

    **Arguments:** as of `hedging_degree_study`; `ns` are the numbers, which replace `config.n`, and
    `folder` gets `first`, `both` (the control with all that were extended) and `again`.

    **Returns:** number of new latents → outcome.

    **Raises:** `ConfigError` for a number that occurs twice, or none, or no seed;
    `KeyboardInterrupt` if Ctrl-C ends a phase, once its checkpoint is saved; else as `fit`.
    """
    config = config or ExtensionConfig()
    if not ns or len(set(ns)) != len(ns):
        raise ConfigError(f"`ns` must be different numbers, at least one, got {list(ns)}.")
    if not seeds:
        raise ConfigError("a study needs at least one seed, got none.")
    place = {
        phase: None if folder is None else Path(folder) / phase
        for phase in ("first", "both", "again")
    }
    recipe = make([width] * len(seeds), list(seeds))
    sae = recipe.sae
    history = fit(
        sae,
        recipe.objective,
        batches(3 * config.seed),
        _lasting(recipe.config, config.first_steps),
        folder=place["first"],
        progress=progress,
    )
    _go_on(history)
    longer = [
        extend(sae, n, [_generator(config.seed, seed, n) for seed in seeds], norm=config.norm)
        for n in ns
    ]

    def objective(company: SAE) -> Objective:
        times = company.members // len(seeds)
        return make(company.widths, [*seeds] * times).objective

    second = _lasting(recipe.config, config.steps)
    (control, *extended), history = continue_together(
        [sae, *longer],
        objective,
        batches(3 * config.seed + 1),
        second,
        penalty_floor=config.penalty_floor,
        folder=place["both"],
        progress=progress,
    )
    _go_on(history)
    (again,), history = continue_together(
        [sae],
        objective,
        batches(3 * config.seed + 2),
        second,
        penalty_floor=config.penalty_floor,
        folder=place["again"],
        progress=progress,
    )
    _go_on(history)
    metrics = {} if held_out is None else dict(measure(control, held_out()).metrics)
    return {
        n: ExtensionOutcome(
            width=width,
            n=n,
            control=control,
            extended=each,
            degree=hedging_degree(
                control.W_dec, each.W_dec, _generator(config.seed), baselines=config.baselines
            ),
            null=change_in_span(
                control.W_dec,
                again.W_dec,
                each.W_dec[:, width:],
                _generator(config.seed),
                baselines=config.baselines,
            ),
            new_density=_density(each, width, batches(3 * config.seed + 1)),
            metrics=metrics,
        )
        for n, each in zip(ns, extended, strict=True)
    }


def _go_on(history: History) -> None:
    """A phase that Ctrl-C has ended must not be built upon."""
    if history.interrupted:
        raise KeyboardInterrupt


@torch.no_grad()
def _density(sae: SAE, width: int, batches: Iterable[Batch]) -> Float64[Tensor, "member new"]:
    """How often the latents behind the first `width` fire, on a sample of batches."""
    shares, samples = [], 0
    for batch in batches:
        whole = batch if isinstance(batch, WeightedBatch) else (batch, None, None)
        x, weight, stands_for = whole
        fires = (sae.encode(x.to(sae.W_enc))[:, :, width:] != 0).double().cpu()
        if weight is None:
            shares.append(fires.mean(1))
        else:
            shares.append((fires * weight.double().cpu().unsqueeze(-1)).sum(1))
        samples += stands_for or x.shape[-2]
        if samples >= _SAMPLES or len(shares) == _BATCHES:
            break
    if not shares:
        raise DataError("batches ran out at once: expected an endless stream for every seed.")
    return torch.stack(shares).mean(0)


def _lasting(config: TrainingConfig, steps: int) -> TrainingConfig:
    return replace(config, steps=steps, log_every=min(config.log_every, steps))


def _generator(*words: int) -> torch.Generator:
    """A generator for these numbers, unrelated to the one that initial weights are drawn from."""
    state = np.random.SeedSequence([len(words), *words]).generate_state(2)
    return torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)
