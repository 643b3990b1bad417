r"""Semantic consistency: do the samples on which a latent fires belong to one class?

Every latent is judged by itself: the share of *its* samples that belong to the class most frequent
among them. Which samples are its own is said in two ways in the literature, and both are measured:
the published text of the papers takes the `top` samples on which it fires most strongly, their
public code all samples on which it fires at all.

A latent that fires on few samples scores high by chance (with one sample, 1), so every number
stands beside what permuted labels give, and a corrected one says how much of the way from chance to
1 a latent has come.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from latent_assay.errors import ConfigError, DataError, ShapeError
from latent_assay.metrics.accumulator import Accumulator, Sums
from latent_assay.metrics.samples import existing, per_member

_BLOCK = 512
"""Samples that are counted at once."""


@dataclass(frozen=True, kw_only=True)
class SemanticConsistencyResult:
    """How far the samples of latents belong to one class, by either choice of samples."""

    top_activated: Float64[Tensor, " member"]
    """Mean share of the modal class among the samples of strongest firing, over active latents."""
    all_activated: Float64[Tensor, " member"]
    """The same among all samples on which the latent fires."""
    top_chance: Float64[Tensor, " member"]
    """`top_activated` with permuted labels, in expectation."""
    all_chance: Float64[Tensor, " member"]
    """`all_activated` with permuted labels, in expectation."""
    top_corrected: Float64[Tensor, " member"]
    """Mean of (share - chance) / (1 - chance) over the latents whose chance is below 1."""
    all_corrected: Float64[Tensor, " member"]
    """The same for all samples on which the latent fires."""
    n_active: Int64[Tensor, " member"]
    """Number of latents that fired; the others have no samples and are in no mean."""
    top_share: Float64[Tensor, "member latent"]
    """The share of each latent among its strongest samples; NaN if it never fires."""
    all_share: Float64[Tensor, "member latent"]
    """The share of each latent among all of its samples; NaN if it never fires."""
    firings: Int64[Tensor, "member latent"]
    """Number of samples on which each latent fires."""
    modal_class: Int64[Tensor, "member latent"]
    """The class most frequent among all samples of a latent; -1 if it never fires."""
    n: int
    """Number of samples."""


@dataclass(frozen=True, kw_only=True)
class _ConsistencySums(Sums):
    counts: Int64[Tensor, "member latent cls"]
    """Firings by class."""
    value: Float[Tensor, "member latent top"]
    """The largest |z| of each latent, largest first; 0 where there are not so many."""
    label: Int64[Tensor, "member latent top"]
    """The classes of these samples."""
    samples: Int64[Tensor, " cls"]
    """Samples by class."""

    @property
    def sizes(self) -> dict[str, int]:
        member, latent, classes = self.counts.shape
        return {
            "member": member, "latent": latent, "class": classes, "top": self.value.shape[-1]
        }  # fmt: skip

    def __add__(self, other: "_ConsistencySums") -> "_ConsistencySums":
        value, label = _strongest(
            torch.cat([self.value, other.value], -1),
            torch.cat([self.label, other.label], -1),
            self.value.shape[-1],
        )
        return _ConsistencySums(
            n=self.n + other.n,
            weight=self.weight + other.weight,
            counts=self.counts + other.counts,
            value=value,
            label=label,
            samples=self.samples + other.samples,
        )


class SemanticConsistency(Accumulator[_ConsistencySums]):
    r"""Streams, for every latent, the classes of the samples on which it fires.

    Latent $j$ *fires* on sample $s$ if $|z_{sj}| > \epsilon \, \|z_s\|$. With $N_{jc}$ the number
    of samples of class $c$ on which it fires,

    $$ \mathrm{SC}_j = \frac{\max_c N_{jc}}{\sum_c N_{jc}}
       \qquad\text{(all activated)}, $$

    and the same with $N_{jc}$ counted among the `top` samples of largest $|z_{sj}|$ only, or among
    all of them if it fires on fewer (top activated). The headline is the mean over the latents that
    fire at all. Of equally strong samples those seen first count, so the result does not depend on
    how samples are cut into batches.

    **Chance** is the expectation of the same number if labels are dealt out anew to all samples: a
    latent that fires on $n$ samples then has $n$ labels drawn without replacement. It depends on
    $n$ and on the classes' sizes alone, and is estimated from `permutations` permutations.

    **Arguments:**
    - `classes`: number of classes.
    - `top`: how many samples of strongest firing are taken.
    - `epsilon`: $\epsilon$.

    **Raises:** `ConfigError` for numbers out of range.

    **Reference:** the measure is that of Wang et al. 2024, "Non-negative Contrastive Learning",
    arXiv:2403.12459 ($\epsilon = 10^{-5}$, all activated), applied to SAEs by Cui et al. 2025, "On
    the Theoretical Understanding of Identifiable Sparse Autoencoders and Beyond" ("top-activated",
    without a number).

    >>> seen = SemanticConsistency(classes=2, top=2)
    >>> z = torch.tensor([[[3.0], [2.0], [1.0], [0.0]]])
    >>> seen.update(z, torch.tensor([0, 0, 1, 1]))
    >>> result = seen.result()
    >>> result.top_activated.item(), round(result.all_activated.item(), 3)
    (1.0, 0.667)
    """

    def __init__(self, classes: int, *, top: int = 20, epsilon: float = 1e-5) -> None:
        super().__init__()
        if classes < 2 or top < 1 or epsilon < 0:
            raise ConfigError(
                "semantic consistency needs at least two classes, a `top` of at least 1 and an "
                f"`epsilon` that is not negative; got {classes}, {top} and {epsilon}."
            )
        self.classes, self.top, self.epsilon = classes, top, epsilon

    def update(
        self, z: Float[Tensor, "member batch latent"], labels: Int[Tensor, " sample"]
    ) -> None:
        """Include a batch.

        **Arguments:**
        - `z`: latent activations.
        - `labels`: the class of each sample of the batch, from 0.

        **Raises:** `ShapeError` if there is not one label per sample; `DataError` for a label that
        is no class, and for latent activations that are not finite.
        """
        z = per_member(z, "z", "latent")
        labels = labels.to(z.device, torch.int64)
        if len(labels) != z.shape[1]:
            raise ShapeError(
                f"there are {len(labels)} labels for {z.shape[1]} samples; expected one each."
            )
        if not len(labels):
            return
        if int(labels.min()) < 0 or int(labels.max()) >= self.classes:
            raise DataError(
                f"labels from {int(labels.min())} to {int(labels.max())} were given; expected "
                f"numbers of {self.classes} classes, 0 to {self.classes - 1}."
            )
        if not bool(z.isfinite().all()):
            raise DataError(
                "latent activations must be finite; some are not, so which samples a latent fires "
                "on is not known. Check the SAE's weights."
            )
        for block, own in zip(z.split(_BLOCK, dim=1), labels.split(_BLOCK), strict=True):
            self._include(self._count(block, own))

    def _count(self, z: Tensor, labels: Tensor) -> _ConsistencySums:
        size = z.abs()
        fires = size > self.epsilon * z.norm(dim=-1, keepdim=True)
        of_class = torch.nn.functional.one_hot(labels, self.classes)
        # exact in float32: a block has far fewer samples than 2^24
        counts = (fires.float().mT @ of_class.float()).long()
        value, label = _strongest(
            torch.where(fires, size, 0.0).mT, labels.expand(*z.mT.shape).contiguous(), self.top
        )
        missing = self.top - value.shape[-1]
        return _ConsistencySums(
            n=len(labels),
            weight=torch.tensor(float(len(labels)), dtype=torch.float64),
            counts=counts,
            value=torch.nn.functional.pad(value, [0, missing]),
            label=torch.nn.functional.pad(label, [0, missing]),
            samples=of_class.sum(0),
        )

    def result(
        self,
        mask: Bool[Tensor, "member latent"] | None = None,
        *,
        permutations: int = 100,
        generator: torch.Generator | None = None,
    ) -> SemanticConsistencyResult:
        """What has been measured so far.

        **Arguments:**
        - `mask`: True where a latent exists; False marks the padding of narrower members.
        - `permutations`: how many permutations of the labels chance is estimated from.
        - `generator`: of the permutations; seed 0 if None.

        **Raises:** `DataError` if no sample has been seen; `ConfigError` without a permutation.
        """
        seen = self._seen()
        if permutations < 1:
            raise ConfigError(f"permutations is {permutations}; expected at least 1.")
        counts = seen.counts.cpu()
        exists = existing(mask, tuple(counts.shape[:2]), counts.device)
        firings = torch.where(exists, counts.sum(-1), 0)
        active = firings > 0
        n_active = active.sum(-1)
        value, label = seen.value.cpu(), seen.label.cpu()
        of_class = torch.nn.functional.one_hot(label, self.classes) * (value > 0).unsqueeze(-1)
        chance = chance_share(
            seen.samples.cpu(), permutations, generator or torch.Generator().manual_seed(0)
        )

        def judged(counts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            n = counts.sum(-1)
            share = torch.where(active, counts.amax(-1).double() / n, torch.nan)
            by_chance = torch.where(active, chance[n], torch.nan)
            room = by_chance < 1
            corrected = torch.where(room, (share - by_chance) / (1 - by_chance), torch.nan)
            return share, share.nanmean(-1), by_chance.nanmean(-1), corrected.nanmean(-1)

        all_share, all_mean, all_chance, all_corrected = judged(counts)
        top_share, top_mean, top_chance, top_corrected = judged(of_class.sum(-2))
        return SemanticConsistencyResult(
            top_activated=top_mean,
            all_activated=all_mean,
            top_chance=top_chance,
            all_chance=all_chance,
            top_corrected=top_corrected,
            all_corrected=all_corrected,
            n_active=n_active,
            top_share=top_share,
            all_share=all_share,
            firings=firings,
            modal_class=torch.where(active, counts.argmax(-1), -1),
            n=seen.n,
        )


def chance_share(
    samples: Int[Tensor, " cls"], permutations: int, generator: torch.Generator
) -> Float64[Tensor, " drawn"]:
    r"""The expected share of the modal class among n samples drawn without replacement.

    **Arguments:**
    - `samples`: number of samples of each class.
    - `permutations`: how many random orders of all labels are averaged; one order serves every n.
    - `generator`: of the orders.

    **Returns:** the share for n = 0 (which is 0), 1, ... up to all samples; 1 for n = 1.

    >>> chance_share(torch.tensor([2, 2]), 50, torch.Generator().manual_seed(0))[[1, 4]]
    tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    labels = torch.arange(len(samples)).repeat_interleave(samples)
    n = torch.arange(1, len(labels) + 1, dtype=torch.float64)
    total = torch.zeros(len(labels), dtype=torch.float64)
    for _ in range(permutations):
        order = labels[torch.randperm(len(labels), generator=generator)]
        counts = torch.nn.functional.one_hot(order, len(samples)).to(torch.int32).cumsum(0)
        total += counts.amax(-1) / n
    return torch.cat([torch.zeros(1, dtype=torch.float64), total / permutations])


def _strongest(
    value: Float[Tensor, "member latent batch"],
    label: Int64[Tensor, "member latent batch"],
    top: int,
) -> tuple[Float[Tensor, "member latent top"], Int64[Tensor, "member latent top"]]:
    """The largest values with their labels, largest first; of equal ones those that come first."""
    order = value.sort(dim=-1, descending=True, stable=True).indices[..., :top]
    return value.gather(-1, order), label.gather(-1, order)
