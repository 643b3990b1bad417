"""One pass over activations: counts for every latent, and a fair sample of its firings."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from latent_assay.diagnosis.candidates import Candidates
from latent_assay.diagnosis.firing_sketch import FiringSketch, Sketching
from latent_assay.diagnosis.subject import Subject
from latent_assay.errors import DataError

VALUES, VALUES_IF_WIDE, WIDE = 512, 256, 4096
"""Activations that are kept of each latent, in SAEs up to a width and in wider ones."""
_RESIDUALS = 2**28
"""Numbers in all residuals that are kept."""
_FEWEST, _MOST = 8, 512
"""Residuals that are kept of each latent, at least and at most."""
BACKGROUND = 4096
"""Samples that are kept whatever fires."""
_ENTRIES = 2**25
"""Entries of a batch of latent activations."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FiringRecord:
    """What one pass leaves. Activations are in units of x (times decoder length)."""

    n: int
    """Number of samples."""
    firings: Int[Tensor, " latent"]
    """How often each latent fired."""
    total: Float[Tensor, " latent"]
    """Sum of its activations."""
    joint: Int[Tensor, "latent candidate"]
    """How often each candidate fired in the latent's firings."""
    joint_total: Float[Tensor, "latent candidate"]
    """Sum of the candidate's activations in the latent's firings."""
    values: Float[Tensor, "latent value"]
    """A fair sample of the latent's activations; NaN where it fired less often."""
    residual: Float[Tensor, "latent kept d_in"]
    r"""$x - \hat x$ in a fair sample of the latent's firings; 0 where it fired less often."""
    kept: Float[Tensor, "latent kept"]
    """The latent's activation there; 0 where it fired less often."""
    row: Int[Tensor, "latent kept"]
    """Which sample that was, counted from the first; -1 where it fired less often."""
    beside: Float[Tensor, "latent kept candidate"]
    """The candidates' activations there."""
    background: Float[Tensor, "sample d_in"]
    """Residuals of samples that were drawn whatever fired."""
    background_firing: Bool[Tensor, "sample latent"]
    """Which latents fired there."""
    mean_square: float
    """Mean square length of the residuals."""
    sketch: FiringSketch
    """Which latents fired together, sample by sample."""

    @cached_property
    def usual(self) -> Float[Tensor, " d_in"]:
        """Median of the residual, number by number: what most samples have in common."""
        return self.background.median(0).values


class _Slots:
    """Algorithm R for every latent at once: the first entries fill the places, later ones replace
    a random place with the probability that keeps the sample fair."""

    def __init__(self, places: int, generator: torch.Generator):
        self.places, self.generator = places, generator

    def choose(
        self, latent: Int[Tensor, " entry"], number: Int[Tensor, " entry"]
    ) -> tuple[Int[Tensor, " accepted"], Int[Tensor, " accepted"]]:
        """Which entries are kept, and in which place.

        **Arguments:**
        - `latent`: of each entry, ascending.
        - `number`: how many entries of that latent came before, in all batches.
        """
        draw = torch.rand(len(latent), generator=self.generator, dtype=torch.float64)
        place = torch.where(number < self.places, number, (draw * (number + 1)).to(torch.int64))
        kept = (place < self.places).nonzero().squeeze(-1)
        # of several entries for one place the last stays, as if they had come one by one
        key = latent[kept] * self.places + place[kept]
        order = key.sort(stable=True).indices
        last = torch.ones(len(order), dtype=torch.bool)
        if len(order) > 1:
            last[:-1] = key[order][1:] != key[order][:-1]
        kept = kept[order[last]]
        return kept, place[kept]


@torch.no_grad()
def record(
    subject: Subject,
    activations: Iterable[Float[Tensor, "_ d_in"]],
    near: Candidates,
    generator: torch.Generator,
) -> FiringRecord:
    """Go through the activations once.

    Memory does not depend on how many there are: up to a gigabyte of residuals (more where latents
    × d_in exceeds $2^{25}$, of which eight residuals each are kept).

    **Arguments:**
    - `subject`: whose latents.
    - `activations`: batches of any size.
    - `near`: pairs to count.
    - `generator`: source of the samples.

    **Raises:** `ShapeError` for activations of another length; `DataError` if there are none, or
    a number is not finite.
    """
    width, d_in, n_near = subject.width, subject.d_in, near.index.shape[1]
    places = max(_FEWEST, min(_MOST, _RESIDUALS // (width * d_in)))
    b_dec = subject.sae.b_dec.detach()[0].float()
    rows = subject.decoder
    firings = torch.zeros(width, dtype=torch.int64)
    total = torch.zeros(width, dtype=torch.float64)
    joint = torch.zeros(width, n_near, dtype=torch.int64)
    joint_total = torch.zeros(width, n_near, dtype=torch.float64)
    n_values = VALUES if width <= WIDE else VALUES_IF_WIDE
    values = torch.full((width, n_values), torch.nan)
    residual = torch.zeros(width, places, d_in)
    kept = torch.zeros(width, places)
    row_of = torch.full((width, places), -1, dtype=torch.int64)
    beside = torch.zeros(width, places, n_near)
    background = torch.zeros(BACKGROUND, d_in)
    background_firing = torch.zeros(BACKGROUND, width, dtype=torch.bool)
    of_values, of_rows = _Slots(n_values, generator), _Slots(places, generator)
    of_background = _Slots(BACKGROUND, generator)
    sketching = Sketching(width, generator)
    seen, square = 0, 0.0
    for x in _pieces(subject, activations):
        z = subject.sae.encode(x)[0].float() * subject.length
        sample, latent = z.nonzero(as_tuple=True)
        value = z[sample, latent]
        x_hat = _decoded(sample, latent, value, len(x), rows) + b_dec
        e = x.float() - x_hat
        if not bool(e.isfinite().all()):
            raise DataError(
                f"the activations hold numbers that are not finite, in rows {seen} to "
                f"{seen + len(x) - 1}. Remove those rows: x[x.isfinite().all(dim=1)]."
            )
        square += float(e.double().square().sum())
        sketching.take(z)

        order = latent.sort(stable=True).indices
        latent, sample, value = latent[order], sample[order], value[order]
        count = torch.bincount(latent, minlength=width)
        first = count.cumsum(0) - count
        number = torch.arange(len(latent)) - first[latent] + firings[latent]
        others = z[sample.unsqueeze(-1), near.index[latent]]
        own = near.index[latent] == latent.unsqueeze(-1)
        others = others.masked_fill(own, 0.0)
        joint.index_add_(0, latent, (others != 0).to(torch.int64))
        joint_total.index_add_(0, latent, others.double())
        total.index_add_(0, latent, value.double())

        chosen, place = of_values.choose(latent, number)
        values[latent[chosen], place] = value[chosen]
        chosen, place = of_rows.choose(latent, number)
        at = latent[chosen], place
        residual[at] = e[sample[chosen]]
        kept[at] = value[chosen]
        row_of[at] = sample[chosen] + seen
        beside[at] = others[chosen]
        firings += count

        everyone = torch.zeros(len(x), dtype=torch.int64)
        chosen, place = of_background.choose(everyone, torch.arange(len(x)) + seen)
        background[place] = e[chosen]
        background_firing[place] = z[chosen] != 0
        seen += len(x)
    if not seen:
        raise DataError(
            "there are no activations: expected at least one batch [batch, d_in], got none. An "
            "iterator that was used up gives nothing a second time; pass a list or a store."
        )
    return FiringRecord(
        n=seen,
        firings=firings,
        total=total,
        joint=joint,
        joint_total=joint_total,
        values=values,
        residual=residual,
        kept=kept,
        row=row_of,
        beside=beside,
        background=background[:seen],
        background_firing=background_firing[:seen],
        mean_square=square / seen,
        sketch=sketching.done(),
    )


def _pieces(
    subject: Subject, activations: Iterable[Float[Tensor, "_ d_in"]]
) -> Iterable[Float[Tensor, "_ d_in"]]:
    """The batches, cut so that their latent activations fit."""
    at_once = max(64, min(8192, _ENTRIES // subject.width))
    dtype = subject.sae.W_enc.dtype
    for x in activations:
        x = x.detach().to("cpu", dtype)
        subject.sae.check_input(x)
        yield from x.split(at_once)


def _decoded(
    sample: Int[Tensor, " entry"],
    latent: Int[Tensor, " entry"],
    value: Float[Tensor, " entry"],
    batch: int,
    rows: Float[Tensor, "latent d_in"],
) -> Float[Tensor, "batch d_in"]:
    """The reconstruction from firing latents, without the bias."""
    start = torch.zeros(batch + 1, dtype=torch.int64)
    start[1:] = torch.bincount(sample, minlength=batch).cumsum(0)
    return torch.nn.functional.embedding_bag(
        latent, rows, start, mode="sum", per_sample_weights=value, include_last_offset=True
    )
