"""Figure 2: what sparsity, sparsifier and width do to the source's count of activated features."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.metrics import recovery
from latent_assay.report import Cell, Column, Curve, MetricsTable, Row, TrainingCurves
from latent_assay.reproductions.curves import member_band
from latent_assay.reproductions.entry import Check, Entry, Result
from latent_assay.reproductions.experiment import SEEDS
from latent_assay.reproductions.identifiability.toy import (
    FEATURES,
    activated,
    mean_activations,
    random_recovered,
    recovered,
    represented,
    toy_sae,
    toy_steps,
    toy_world,
    untrained,
)
from latent_assay.sae import SAE
from latent_assay.worlds import World

THRESHOLD = 0.05
"""Of the mean activation when a feature fires alone; about a tenth of what the truth would give."""
ANY = 1e-6
SUM_SAMPLES, SUM_THRESHOLD = 10_000, 10.0
"""The source's sum over samples and its threshold, which it does not state."""


def as_printed(
    mean: Float[Tensor, "member feature latent"], sparsity: float
) -> Float[Tensor, " member"]:
    r"""The count with the source's $M_j^i = \sum_x h_j(x^i)$ over samples, silent ones included."""
    return activated(mean, SUM_THRESHOLD / (SUM_SAMPLES * (1 - sparsity)))


def _curves(
    title: str, label: str, steps: Sequence[int], panels: Mapping[str, Mapping[str, list[Tensor]]]
) -> TrainingCurves:
    """One panel for each metric, one line for each name; values are members at every step."""
    curves = []
    for metric, lines in panels.items():
        bands = []
        for name, members in lines.items():
            bands.append(member_band(name, np.asarray(steps), torch.stack(members).double()))
        curves.append(Curve(metric=metric.replace(" ", "_"), label=metric, bands=tuple(bands)))
    return TrainingCurves(title=title, curves=tuple(curves), step_label=label)


def _fig_2a(quick: bool) -> Result:
    grid = (0.9, 0.99, 0.999) if quick else (0.9, 0.97, 0.99, 0.997, 0.999)
    steps = toy_steps(quick)
    seen: dict[float, Tensor] = {}
    found: dict[float, Tensor] = {}
    for S in grid:
        sae = toy_sae(S, "Top-2", FEATURES, quick)
        seen[S] = mean_activations(sae, toy_world(S, steps).features)
        found[S] = recovered(sae, toy_world(S, steps))
    first = grid[0]
    printed = [as_printed(seen[S], S) for S in grid]
    same = [as_printed(seen[first], S) for S in grid]
    firing = [activated(seen[S], THRESHOLD) for S in grid]
    lowest = [activated(seen[S], ANY) for S in grid]
    checks = [
        Check.band(
            "count as printed (sum over samples), S = .9 less S = .999",
            printed[0] - printed[-1],
            0.1,
            2.1,
        ),
        Check.band(
            "the same with one SAE, trained at S = .9, and S changed in the metric only",
            same[0] - same[-1],
            0.1,
            2.1,
        ),
        Check.band("count per firing, threshold .05, at S = .9", firing[0], 0.4, 0.9),
        Check.band("count per firing, threshold .05, at S = .999: it rises", firing[-1], 1.0, 1.6),
    ]
    checks += [
        Check.near(f"count per firing, threshold → 0, at S = {S} (n k / n_m)", each, 2.0, 0.05)
        for S, each in zip(grid, lowest, strict=True)
    ]
    checks += [
        Check.band("MCC to represented features at S = .9", found[first], 0.85, 0.97),
        Check.band("MCC at S = .99", found[0.99], 0.97, 1.0),
        Check.band("MCC, S = .99 less S = .9", found[0.99] - found[first], 0.02, 1.0),
    ]
    figure = _curves(
        "sparsity",
        "−100 log₁₀(1 − S)",
        [round(-100 * math.log10(1 - S)) for S in grid],
        {
            "activated features": {
                "as printed": printed,
                "as printed, SAE of S = .9": same,
                "per firing, threshold .05": firing,
                "per firing, threshold 0": lowest,
            },
            "MCC": {"MCC": [found[S] for S in grid]},
        },
    )
    trend = ", ".join(
        f"{float(f.mean()):.2f} at S = {S}" for S, f in zip(grid, firing, strict=True)
    )
    mccs = ", ".join(f"{float(found[S].mean()):.3f}" for S in grid)
    return Result(
        checks=tuple(checks),
        members=len(SEEDS),
        sections=(figure,),
        note=(
            "The trend of panel (a) comes from the metric. It sums over samples (here 10,000, with "
            "a threshold of 10), of which a share 1 − S lets a feature fire, so that fewer sums "
            "exceed a fixed threshold as S grows; one and the same SAE shows the same fall. Per "
            "firing the count is 2 at every S for a small threshold, and rises at .05: "
            f"{trend}. That sparsity helps, up to a point, is seen in MCC ({mccs}): at S = .999 "
            "this training shows an SAE each feature only "
            f"{(400 * 128 if quick else 1000 * 256) // 1000} times, and more samples raise it."
        ),
    )


def _fig_2b(quick: bool) -> Result:
    world = toy_world(0.99, toy_steps(quick))
    names = ("Top-2", "JumpReLU", "ReLU", "none")
    low, high, found = {}, {}, {}
    for name in names:
        sae = toy_sae(0.99, name, FEATURES, quick)
        mean = mean_activations(sae, world.features)
        low[name], high[name] = activated(mean, 1e-3), activated(mean, THRESHOLD)
        found[name] = recovered(sae, world)
    control = activated(mean_activations(untrained("Top-2", FEATURES), world.features), ANY)
    chance = random_recovered(world, FEATURES)
    checks = (
        Check.near("Top-2: features that activate a latent (threshold .001)", low["Top-2"],
                   2.0, 0.05),
        Check.band("JumpReLU(.1)", low["JumpReLU"], 1.0, 10.0),
        Check.band("no sparsifier", low["none"], 70.0, 110.0),
        Check.band("ReLU, not in the source", low["ReLU"], 70.0, 110.0),
        Check.near("Top-2 before training: the same as after", control, 2.0, 0.05),
        Check.band("MCC, Top-2 less JumpReLU", found["Top-2"] - found["JumpReLU"], 0.05, 1.0),
        Check.band("MCC, JumpReLU less none", found["JumpReLU"] - found["none"], 0.05, 1.0),
        Check.band("MCC, none less random directions", found["none"] - chance, -0.1, 0.1),
        Check.band("MCC, ReLU less random directions", found["ReLU"] - chance, -0.1, 0.1),
    )  # fmt: skip
    table = "; ".join(
        f"{n}: {float(low[n].mean()):.1f} (threshold .05: {float(high[n].mean()):.2f}), MCC "
        f"{float(found[n].mean()):.3f} ± {float(found[n].std()):.3f}"
        for n in names
    )
    return Result(
        checks=checks,
        members=len(SEEDS),
        sections=(_sparsifier_table(names, low, high, found, chance),),
        note=(
            f"{table}; random directions have MCC {chance:.3f}. ReLU alone, for which theorem 1 is "
            "stated, is no better than no sparsifier here: without a penalty it spreads. "
            "JumpReLU depends on its start: rows of length .1 never reach its threshold and the "
            "SAE stays dead (so the rows of all SAEs here begin at length 1). Top-2 counts 2 "
            "features per latent even before training."
        ),
    )


def _sparsifier_table(
    names: Sequence[str],
    low: Mapping[str, Tensor],
    high: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    chance: float,
) -> MetricsTable:
    columns = (
        Column(key="low", label="activated features, threshold .001", direction="none", digits=2,
               definition="Features that activate a latent when they fire alone, on average."),
        Column(key="high", label="threshold .05", direction="none", digits=2,
               definition="The same beyond a mean activation of .05."),
        Column(key="mcc", label="MCC", direction="higher", digits=3,
               definition="Mean cosine of represented features with their matched latents."),
    )  # fmt: skip
    rows = [
        Row(
            name=name,
            kind="trained",
            cells={
                "low": Cell.over(low[name].tolist()),
                "high": Cell.over(high[name].tolist()),
                "mcc": Cell.over(found[name].tolist()),
            },
        )
        for name in names
    ]
    rows.append(Row(name="random directions", kind="baseline", cells={"mcc": Cell(mean=chance)}))
    return MetricsTable(title="sparsifiers", columns=columns, rows=tuple(rows))


def _fig_2c(quick: bool) -> Result:
    widths = (20, 50, 100, 200) if quick else (20, 35, 50, 75, 100, 150, 200)
    world = toy_world(0.99, toy_steps(quick))
    saes: dict[int, SAE] = {w: toy_sae(0.99, "Top-2", w, quick) for w in widths}
    low = {w: _count(sae, world, ANY) for w, sae in saes.items()}
    high = {w: _count(sae, world, THRESHOLD) for w, sae in saes.items()}
    found = {w: recovered(sae, world) for w, sae in saes.items()}
    before = {w: _count(untrained("Top-2", w), world, ANY) for w in widths}
    share = {w: _found(sae, world) for w, sae in saes.items()}
    checks = [
        Check.near(f"threshold → 0, n_m = {w} (n k / n_m)", low[w], 2 * FEATURES / w,
                   0.02 * FEATURES / w)
        for w in (20, 50, 100, 200)
    ] + [
        Check.near("n_m = 20, before training", before[20], 20.0, 0.2),
        Check.band("threshold .05, n_m = 20 less n_m = 200", high[20] - high[200], 3.0, 20.0),
        Check.true("threshold .05: falls with every step of the width",
                   _falls([float(high[w].mean()) for w in widths])),
        Check.band("share of represented features found (cosine > .9), n_m = 20", share[20],
                   0.0, 0.25),
        Check.band("the same at n_m = 200", share[200], 0.9, 1.0),
        Check.band("MCC at n_m = 200", found[200], 0.97, 1.0),
        Check.band("MCC, n_m = 200 less n_m = 20", found[200] - found[20], 0.1, 1.0),
    ]  # fmt: skip
    figure = _curves(
        "width",
        "width",
        widths,
        {
            "activated features": {
                "threshold .05": [high[w] for w in widths],
                "threshold 0": [low[w] for w in widths],
                "threshold 0, before training": [before[w] for w in widths],
            },
            "MCC": {"MCC": [found[w] for w in widths]},
            "represented features found": {"found": [share[w] for w in widths]},
        },
    )
    return Result(
        checks=tuple(checks),
        members=len(SEEDS),
        sections=(figure,),
        note=(
            "As the threshold tends to 0 the count is n k / n_m for any Top-k SAE, trained or not: "
            "k latents fire for each of n features. The fall of panel (c) is arithmetic. That "
            "width helps is shown by the features found."
        ),
    )


def _count(sae: SAE, world: World, threshold: float) -> Tensor:
    return activated(mean_activations(sae, world.features), threshold)


def _found(sae: SAE, world: World) -> Float[Tensor, " member"]:
    best = recovery(sae.W_dec.detach(), represented(world))
    return (best > 0.9).double().mean(-1).float()


def _falls(values: Sequence[float]) -> bool:
    return all(later < earlier for earlier, later in pairwise(values))


_SETUP = (
    "200 features, silent with probability S and else of magnitude U[0, 1], in 20 dimensions by "
    "directions that the ReLU output model learned; tied SAEs without biases, squared error only, "
    "six members, Adam 5e-3 (quick: 1e-2) with decay. Each feature fires alone, and a latent's "
    "mean activation is held against a threshold. The source states neither S, optimiser nor "
    "threshold. MCC is to the columns of W_p longer than ½. "
)

ENTRIES: tuple[Entry, ...] = (
    Entry(
        id="003-fig-2a",
        source="003",
        title="Figure 2a: sparsity of the features",
        claim="Sparser features lower the number of features that activate a latent.",
        setup=_SETUP + "Top-2, width 200, S from .9 to .999, each with directions of its own.",
        run=_fig_2a,
        errors=(
            "The metric sums over samples, which makes it fall with S for any SAE. Per firing it "
            "does not fall."
        ),
    ),
    Entry(
        id="003-fig-2b",
        source="003",
        title="Figure 2b: the sparsifier",
        claim="A sparsifier lowers the number of features that activate a latent.",
        setup=_SETUP + "Width 200, S = .99; Top-2, JumpReLU with its threshold held at .1, none.",
        run=_fig_2b,
    ),
    Entry(
        id="003-fig-2c",
        source="003",
        title="Figure 2c: the width",
        claim="A wider SAE lowers the number of features that activate a latent.",
        setup=_SETUP + "Top-2, S = .99, widths 20 to 200.",
        run=_fig_2c,
        errors="For Top-k the metric is n k / n_m by arithmetic as the threshold tends to 0.",
    ),
)
