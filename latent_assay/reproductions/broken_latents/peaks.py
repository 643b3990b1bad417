"""Activation peaks: a latent that mixes features fires with several strengths."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.plots import Bins
from latent_assay.report import Cell, Column, Histogram, MetricsTable, Row
from latent_assay.reproductions.broken_latents.narrow import cured, trained, world_with
from latent_assay.reproductions.entry import Check, Entry, Result
from latent_assay.reproductions.experiment import activations, latent_of
from latent_assay.sae import SAE
from latent_assay.worlds import Sample

SAMPLES = 100_000
FLOOR = 0.1
"""Part of the largest activation below which a latent counts as silent."""
BINS = 200
WIDTH = 0.02
"""Standard deviation of the smoothing, as a part of the largest activation."""
PROMINENCE = 0.02
"""Part of the highest peak by which a peak must rise above what separates it from a higher one."""
STATES = {
    "neither": (False, False, False),
    "12 alone": (False, False, True),
    "5 and 12": (True, False, True),
    "7 and 12": (False, True, True),
    "5, 7 and 12": (True, True, True),
}
"""Firing of 5, 7 and 12."""


def peaks(
    z: Float[Tensor, " sample"],
    weight: Float[Tensor, " sample"] | None = None,
    *,
    floor: float = FLOOR,
) -> list[float]:
    r"""Where the distribution of a latent's activations has its peaks.

    Activations above `floor` times the largest are counted in 200 bins from 0 to the largest, and
    smoothed with a Gaussian of 2% of it. A local maximum is a peak if it stands out by 2% of the
    highest one. The floor leaves out silence: where almost every latent fires a little all the
    time, "silent" means weak rather than 0.

    **Arguments:**
    - `z`: activations of one latent.
    - `weight`: of each sample, such as the probability of a pattern; equal if None.
    - `floor`: see above.

    **Returns:** the activations at the peaks, rising; none for a latent that never fires.

    >>> [round(each) for each in peaks(torch.tensor([0.0, 4.0, 4.0, 10.0, 10.0, 10.0]))]
    [4, 10]
    """
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks

    largest = float(z.max()) if len(z) else 0.0
    if largest <= 0:
        return []
    counted = z > floor * largest
    # room for the smoothing beyond the largest activation, so that a peak there is one
    edges = np.linspace(0, largest * (1 + 8 * WIDTH), BINS + 1)
    counts, _ = np.histogram(
        z[counted].double().numpy(),
        edges,
        weights=None if weight is None else weight[counted].double().numpy(),
    )
    bin_width = edges[1] - edges[0]
    density = gaussian_filter1d(counts.astype(float), WIDTH * largest / bin_width, mode="constant")
    places, _ = find_peaks(density, prominence=PROMINENCE * density.max())
    return [float((edges[i] + edges[i + 1]) / 2) for i in places]


def peak_counts(z: Float[Tensor, "member sample latent"]) -> Float[Tensor, "member latent"]:
    """The number of peaks of every latent."""
    return torch.tensor([[float(len(peaks(column))) for column in each.mT] for each in z])


def drawn(parent: int) -> Sample:
    """The samples on which activations are looked at."""
    return world_with(parent).sample(SAMPLES, torch.Generator().manual_seed(7))


def _run(quick: bool) -> Result:
    world, sample = world_with(12), drawn(12)
    sae = trained(12, quick)
    z = activations(sae, sample.x)
    counts = peak_counts(z)
    mixed = [latent_of(sae, world, feature) for feature in (5, 7)]
    clean = [latent_of(sae, world, feature) for feature in (4, 6, 8)]
    row = torch.arange(sae.members)
    of_mixed = torch.stack([counts[row, found] for found in mixed])
    of_clean = torch.stack([counts[row, found] for found in clean])
    after = peak_counts(activations(cured(12, quick), sample.x)) if not quick else None
    note = (
        "Peaks above a tenth of the largest activation are counted, so that silence is none. "
        f"The two mixed latents have {float(of_mixed.amin(0).mean()):.1f} and "
        f"{float(of_mixed.amax(0).mean()):.1f} peaks on average where the source sees four in "
        "both. Only the penalty decides how the two are turned within their plane: once it has, "
        "one of them has the negative component that doubles the peaks; until then both do, with "
        "four peaks each."
    )
    if after is not None:
        note += f" After the cure latents have {float(after.mean()):.1f} peaks on average."
    return Result(
        checks=(
            Check.band("peaks of the mixed latent that has more", of_mixed.amax(0), 3, math.inf),
            Check.band("peaks of the other mixed latent", of_mixed.amin(0), 2, math.inf),
            Check.band("most peaks of the latents of 4, 6 and 8", of_clean.amax(0), 1, 1),
        ),
        members=sae.members,
        sections=(
            _histogram(z[0], {"4": clean[0][0], "5": mixed[0][0], "7": mixed[1][0]}),
            _states(sae, sample, z[0], {"5": mixed[0][0], "7": mixed[1][0]}),
        ),
        note=note,
    )


def _histogram(z: Tensor, latents: dict[str, int]) -> Histogram:
    edges = np.linspace(0, float(z.max()) * 1.02, 81)
    series = []
    for feature, latent in latents.items():
        values = z[:, latent]
        shown = values[values > FLOOR * values.max()].double().numpy()
        series.append(
            Bins(
                name=f"latent of {feature}",
                edges=edges,
                counts=np.histogram(shown, edges)[0].astype(np.int64),
                outside=len(values) - len(shown),
            )
        )
    return Histogram(
        title="How strongly latents fire, feature 12 parent of 5 and 7",
        series=tuple(series),
        label="latent activation",
        count_label="activations",
        outside_label="silent",
        sentence="The latent of feature 4 has one peak; latents that contain feature 12 have more.",
    )


def _states(sae: SAE, sample: Sample, z: Tensor, latents: dict[str, int]) -> MetricsTable:
    firing = sample.firing[:, [5, 7, 12]]
    columns: list[Column] = []
    cells: dict[str, dict[str, Cell]] = {feature: {} for feature in latents}
    for name, state in STATES.items():
        columns.append(
            Column(
                key=name,
                label=name,
                direction="none",
                digits=1,
                definition="Mean activation while these of 5, 7 and 12 fire, and no others.",
            )
        )
        here = (firing == torch.tensor(state)).all(-1)
        for feature, latent in latents.items():
            cells[feature][name] = Cell(mean=float(z[here, latent].mean()))
    return MetricsTable(
        title="Why there are several peaks",
        columns=tuple(columns),
        rows=tuple(
            Row(name=f"latent of {feature}", kind="trained", cells=cells[feature])
            for feature in latents
        ),
        sentence="Each peak is a combination of the three linked features.",
    )


ENTRIES: tuple[Entry, ...] = (
    Entry(
        id="004-peaks",
        source="004",
        title="Mixed latents have several activation peaks",
        claim="A latent that stands for one feature has one peak in the histogram of its "
        "activations; the latents of 5 and 7, which contain 12, have four.",
        setup="The SAEs of 004-narrow-parent-12, on 100,000 activations.",
        run=_run,
    ),
)
