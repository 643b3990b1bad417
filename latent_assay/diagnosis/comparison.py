r"""What several SAEs have in common, what each of them alone has found, and how sure that is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from latent_assay.errors import ConfigError, DataError, ShapeError
from latent_assay.metrics import Correlation, MeanSd, assign, mcc, nearest_feature, summary
from latent_assay.sae import SAE


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig:
    """When two latents count as the same, and how much is computed."""

    threshold: float = 0.7
    """Cosine of decoder rows, and correlation of activations, from which on two latents count as
    one found twice."""
    widest: int = 4096
    """Above this width there is no one-to-one matching and no map of correlations: time grows with
    the cube of the width, memory with its square. Coverage remains."""
    members: int = 4
    """How many members of each SAE are compared."""
    seed: int = 0
    """Of the random directions that stand for chance."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1 or self.members < 1:
            raise ConfigError(
                "a comparison needs a threshold above 0 and at most 1, and at least one member; "
                f"received {self.threshold} and {self.members}."
            )


@dataclass(frozen=True, kw_only=True)
class Kinship:
    """How much two SAEs have in common, or two seeds of one. Numbers are over pairs of members."""

    decoder_mcc: MeanSd | None
    """Mean cosine of decoder rows under the best one-to-one matching; None above `widest`."""
    activation_mcc: MeanSd | None
    """Mean correlation of activations under their best matching; None without activations."""
    covered: MeanSd
    """Share of the first one's living latents for which the second has one with a cosine of at
    least `threshold`."""
    covering: MeanSd
    """Share of the second one's living latents that the first has."""


@dataclass(frozen=True, kw_only=True)
class PairOfSAEs:
    """Two SAEs beside each other."""

    first: str
    """Name of the one."""
    second: str
    """Name of the other."""
    between: Kinship
    """What they have in common."""
    chance: Kinship
    """What the first has in common with random directions, as many as the second has latents."""
    verdict: str
    """Whether they differ more than two seeds of one do, in a sentence."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedSAE:
    """One of the SAEs compared."""

    name: str
    """Its name."""
    members: int
    """How many members it has."""
    width: int
    """Its number of latents."""
    density: Float64[Tensor, " latent"] | None
    """Share of activations on which each latent of the first member fires; None without them."""
    seeds: Kinship | None
    """What two of its own seeds have in common; None for a single member."""
    stability: Float64[Tensor, " latent"] | None
    """For each latent of the first member, the share of the other members that have it too."""
    elsewhere: Float64[Tensor, " latent"]
    """For each latent of the first member, its best cosine with any latent of the other SAEs."""
    elsewhere_activation: Float64[Tensor, " latent"] | None
    """Its best correlation with any latent of the other SAEs' first members."""
    alone: Int64[Tensor, " found"]
    """Living latents of the first member that no other SAE has, by cosine or by activation: those
    that most of its own seeds have first, then the most frequent."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Several SAEs compared."""

    config: ComparisonConfig
    """When latents counted as the same."""
    saes: tuple[ComparedSAE, ...]
    """The SAEs."""
    pairs: tuple[PairOfSAEs, ...]
    """Every two of them."""
    rows: int
    """Activations that correlations and densities stand on; 0 for weights alone."""
    notes: tuple[str, ...] = field(default=())
    """What could not be computed, and why."""


@torch.no_grad()
def compare(
    saes: Mapping[str, SAE],
    batches: Sequence[Float[Tensor, "batch d_in"]] | Iterable[Tensor] = (),
    *,
    config: ComparisonConfig | None = None,
) -> Comparison:
    r"""Match the latents of several SAEs, and say which of them only one has found.

    Two latents count as one found twice where $\cos(d_i, d'_j) \ge \tau$, or, with activations,
    where $\mathrm{corr}(z_i, z'_j) \ge \tau$: an SAE that absorbs turns its decoder rows but may
    fire alike, and one that rotates within a subspace does the opposite. A latent is *alone* if
    neither holds for any latent of any other SAE. Cosines have their sign; latents are positive.

    Seeds tell how much of a difference is luck. Two SAEs "differ more than seeds do" if the
    matched cosine between them lies below that among the seeds of one of them by more than the
    pairs' spread explains (Welch's t-test); the pairs share members, so the test is a little too
    sure of itself. With a single member each there is nothing to compare the difference with, and
    the comparison says that.

    Random directions set the level of chance, which grows with the number of latents and falls with
    $d_{in}$.

    **Arguments:**
    - `saes`: two or more, by name, for raw activations at one hook point.
    - `batches`: activations; none for a comparison of weights. Read once.
    - `config`: thresholds and limits.

    **Raises:** `ConfigError` for fewer than two SAEs; `ShapeError` if they read different spaces;
    `DataError` for activations that are not finite.

    **Reference:** matching across seeds as in Paulo and Belrose 2025, arXiv:2501.16615.
    """
    config = config or ComparisonConfig()
    _check(saes)
    exported = {
        name: sae.take(list(range(min(sae.members, config.members)))).exported().float()
        for name, sae in saes.items()
    }
    names = list(exported)
    decoders = {name: _decoders(sae) for name, sae in exported.items()}
    seen = _Activations(exported, config)
    rows = 0
    for x in batches:
        if not bool(torch.isfinite(x).all()):
            raise DataError("activations to compare SAEs on must be finite; found NaN or infinity.")
        seen.update(x.float())
        rows += len(x)
    alive = {
        name: seen.alive(name) if rows else _has_direction(decoders[name][0]) for name in names
    }
    maps = seen.maps() if rows else {}
    within = {name: _within(decoders[name], alive[name], config) for name in names}
    # small seeds may well have made the SAEs compared, and would give the same directions
    generator = torch.Generator().manual_seed(911_000_003 + config.seed)
    pairs = []
    for a, b in combinations(names, 2):
        members = list(product(range(len(decoders[a])), range(len(decoders[b]))))
        between = _kinship(
            decoders[a], decoders[b], alive[a], alive[b], members, config, maps.get((a, b))
        )
        random = [torch.randn(decoders[b][0].shape, generator=generator) for _ in decoders[b]]
        chance = _kinship(
            decoders[a], random, alive[a], torch.ones(len(random[0]), dtype=torch.bool),
            [(0, j) for j in range(len(random))], config, None,
        )  # fmt: skip
        verdict = _verdict(a, b, between, within)
        pairs.append(PairOfSAEs(first=a, second=b, between=between, chance=chance, verdict=verdict))
    return Comparison(
        config=config,
        saes=tuple(
            _compared(name, exported, decoders, alive, within, maps, seen if rows else None, config)
            for name in names
        ),
        pairs=tuple(pairs),
        rows=rows,
        notes=_notes(exported, rows, config),
    )


def _check(saes: Mapping[str, SAE]) -> None:
    if len(saes) < 2:
        raise ConfigError(
            f"a comparison needs two SAEs or more, received {', '.join(saes) or 'none'}. Members "
            "of one ensemble are its seeds; give another SAE to compare them with."
        )
    sizes = {name: sae.d_in for name, sae in saes.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ShapeError(
            f"SAEs can be compared only where they read the same activations, but their d_in "
            f"differ: {told}. Were they trained at different hook points or on different models?"
        )


def _decoders(sae: SAE) -> list[Float[Tensor, "latent d_in"]]:
    return [sae.W_dec[member, :width] for member, width in enumerate(sae.widths)]


def _has_direction(rows: Float[Tensor, "latent d_in"]) -> Tensor:
    return (rows != 0).any(-1)


class _Activations:
    """Streams which latents fire and how the first members' latents correlate."""

    def __init__(self, saes: Mapping[str, SAE], config: ComparisonConfig) -> None:
        self.saes = {name: sae.take(0) for name, sae in saes.items()}
        narrow = [name for name, sae in self.saes.items() if sae.width <= config.widest]
        self.correlations = {pair: Correlation() for pair in combinations(narrow, 2)}
        self.fired = {name: torch.zeros(sae.width) for name, sae in self.saes.items()}
        self.rows = 0

    def update(self, x: Float[Tensor, "batch d_in"]) -> None:
        z = {name: sae.encode(x)[0] for name, sae in self.saes.items()}
        for name, each in z.items():
            self.fired[name] += (each != 0).sum(0)
        for (a, b), seen in self.correlations.items():
            seen.update(z[a][None], z[b])
        self.rows += len(x)

    def density(self, name: str) -> Float64[Tensor, " latent"]:
        return self.fired[name].double() / self.rows

    def alive(self, name: str) -> Tensor:
        return self.fired[name] > 0

    def maps(self) -> dict[tuple[str, str], Float64[Tensor, "latent other"]]:
        found = {pair: seen.result().correlation[0] for pair, seen in self.correlations.items()}
        return found | {(b, a): each.T for (a, b), each in found.items()}


def _kinship(
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    alive_first: Tensor,
    alive_second: Tensor,
    pairs: Sequence[tuple[int, int]],
    config: ComparisonConfig,
    correlation: Float64[Tensor, "latent other"] | None,
) -> Kinship:
    matched, covered, covering = [], [], []
    narrow = max(len(first[0]), len(second[0])) <= config.widest
    for i, j in pairs:
        if narrow:
            matched.append(float(mcc(first[i], second[j], signed=True)))
        # which latents live is known of the first members; of others, those that have a direction
        covered.append(_coverage(first[i], second[j], alive_first if i == 0 else None, config))
        covering.append(_coverage(second[j], first[i], alive_second if j == 0 else None, config))
    return Kinship(
        decoder_mcc=summary(torch.tensor(matched)) if matched else None,
        activation_mcc=None if correlation is None else _activation_mcc(correlation),
        covered=summary(torch.tensor(covered)),
        covering=summary(torch.tensor(covering)),
    )


def _coverage(of: Tensor, by: Tensor, alive: Tensor | None, config: ComparisonConfig) -> float:
    best = nearest_feature(of, by).cosine
    living = _has_direction(of) if alive is None else alive
    return float((best[living] >= config.threshold).double().mean()) if living.any() else 0.0


def _activation_mcc(correlation: Float64[Tensor, "latent other"]) -> MeanSd:
    return summary(assign(correlation).similarity.sum()[None] / min(correlation.shape))


def _within(decoders: Sequence[Tensor], alive: Tensor, config: ComparisonConfig) -> Kinship | None:
    if len(decoders) < 2:
        return None
    pairs = list(combinations(range(len(decoders)), 2))
    return _kinship(decoders, decoders, alive, alive, pairs, config, None)


def _verdict(a: str, b: str, between: Kinship, within: Mapping[str, Kinship | None]) -> str:
    """What the seeds allow to be said."""
    known = {name: within[name] for name in (a, b) if within[name] is not None}
    if not known:
        return (
            f"{a} and {b} have one member each: nothing tells how much two seeds of one of them "
            "would differ, so this difference cannot be judged."
        )

    def number(kinship: Kinship) -> MeanSd:
        return kinship.decoder_mcc or kinship.covered

    own = number(between)
    further = [
        name
        for name, kinship in known.items()
        if kinship is not None
        and own.mean < number(kinship).mean
        and own.differs_from(number(kinship))
    ]
    if further:
        return f"{a} and {b} differ more than two seeds of {' or '.join(further)} do."
    if all(kinship is None or number(kinship).n < 2 for kinship in known.values()) or own.n < 2:
        return (
            f"{a} and {b} cannot be told apart from two seeds of one: there are too few seeds to "
            "know their spread."
        )
    return f"{a} and {b} do not differ more than two seeds of one do."


def _compared(
    name: str,
    saes: Mapping[str, SAE],
    decoders: Mapping[str, Sequence[Tensor]],
    alive: Mapping[str, Tensor],
    within: Mapping[str, Kinship | None],
    maps: Mapping[tuple[str, str], Tensor],
    seen: _Activations | None,
    config: ComparisonConfig,
) -> ComparedSAE:
    own = decoders[name][0]
    others = [rows for each in saes if each != name for rows in decoders[each]]
    elsewhere = torch.stack([nearest_feature(own, rows).cosine for rows in others]).amax(0)
    correlations = [maps[name, each] for each in saes if (name, each) in maps]
    by_activation = (
        torch.stack([each.amax(1) for each in correlations]).amax(0) if correlations else None
    )
    stability = None
    if len(decoders[name]) > 1:
        same = [nearest_feature(own, rows).cosine for rows in decoders[name][1:]]
        stability = (torch.stack(same) >= config.threshold).double().mean(0)
    missing = alive[name] & (elsewhere < config.threshold)
    if by_activation is not None:
        missing &= by_activation < config.threshold
    alone = missing.nonzero().squeeze(-1)
    density = None if seen is None else seen.density(name)
    # a tuple of keys, the last counts most
    for key in (-elsewhere, density, stability):
        if key is not None:
            alone = alone[key[alone].argsort(descending=True, stable=True)]
    return ComparedSAE(
        name=name,
        members=saes[name].members,
        width=len(own),
        density=density,
        seeds=within[name],
        stability=stability,
        elsewhere=elsewhere,
        elsewhere_activation=by_activation,
        alone=alone,
    )


def _notes(saes: Mapping[str, SAE], rows: int, config: ComparisonConfig) -> tuple[str, ...]:
    notes = []
    wide = [name for name, sae in saes.items() if max(sae.widths) > config.widest]
    if wide:
        notes.append(
            f"{', '.join(wide)}: wider than {config.widest:,} latents, so not matched one to one; "
            "coverage is by the nearest latent."
        )
    if not rows:
        notes.append(
            "Weights alone were compared: latents that point alike but fire differently, or the "
            "other way round, are not told apart, and dead latents count."
        )
    return tuple(notes)
