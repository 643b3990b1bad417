"""Latents as classifiers of true features: precision, recall and F1 of firing."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Float64, Int, Int64, Real
from torch import Tensor

from latent_assay.errors import ConfigError, DataError, ShapeError
from latent_assay.metrics.accumulator import Accumulator, Sums
from latent_assay.metrics.directions import row_chunks
from latent_assay.metrics.registry import Measured
from latent_assay.metrics.samples import (
    existing,
    per_member,
    readable,
    shape_of,
    shared_or_per_member,
    weighted,
)

Choice = Literal["f1", "match", "cosine"]
"""How each latent's feature was chosen."""


@dataclass(frozen=True, kw_only=True)
class ClassificationResult(Measured):
    """How well each latent's firing tells that its feature fires."""

    precision: Float64[Tensor, "member latent"]
    """P(feature fires | latent fires); 0 for a latent that never fires or has no feature."""
    recall: Float64[Tensor, "member latent"]
    """P(latent fires | feature fires); 0 if the feature never fires or there is none."""
    f1: Float64[Tensor, "member latent"]
    """Harmonic mean of both; 0 if either is."""
    feature: Int64[Tensor, "member latent"]
    """The feature that each latent was judged against; -1 for none."""
    chosen_by: Choice
    """How it was chosen."""
    macro_precision: Float64[Tensor, " member"]
    """Mean of `precision` over latents."""
    macro_recall: Float64[Tensor, " member"]
    """Mean of `recall` over latents."""
    macro_f1: Float64[Tensor, " member"]
    """Mean of `f1` over latents."""
    feature_f1: Float64[Tensor, "member feature"]
    """Highest F1 that any latent reaches on each feature, whatever was chosen."""
    f1_coverage: Float64[Tensor, " member"]
    """Mean of `feature_f1` over features."""
    n: int
    """Number of samples with positive weight."""
    weight: float
    """Sum of the weights."""

    def metrics(self) -> dict[str, Tensor]:
        """The headline numbers, one per member, named after how features were chosen."""
        return {
            f"precision_by_{self.chosen_by}": self.macro_precision,
            f"recall_by_{self.chosen_by}": self.macro_recall,
            f"f1_by_{self.chosen_by}": self.macro_f1,
            "f1_coverage": self.f1_coverage,
        }


@dataclass(frozen=True, kw_only=True)
class CofiringCounts:
    """On how many samples latents and features fire, alone and together, as sums of weights."""

    both: Float64[Tensor, "member latent feature"]
    """Samples on which latent and feature fire."""
    latent: Float64[Tensor, "member latent"]
    """Samples on which the latent fires."""
    feature: Float64[Tensor, "member feature"]
    """Samples on which the feature fires."""
    n: int
    """Number of samples with positive weight."""
    weight: float
    """Sum of the weights."""


@dataclass(frozen=True, kw_only=True)
class _CofiringSums(Sums):
    both: Float64[Tensor, "member latent feature"]
    latent: Float64[Tensor, "member latent"]
    feature: Float64[Tensor, "lead feature"]
    """`lead` is 1 while the features' firing is shared by all members."""

    @property
    def sizes(self) -> dict[str, int]:
        return dict(zip(("member", "latent", "feature"), self.both.shape, strict=True))

    def __add__(self, other: "_CofiringSums") -> "_CofiringSums":
        return _CofiringSums(
            n=self.n + other.n,
            weight=self.weight + other.weight,
            both=self.both + other.both,
            latent=self.latent + other.latent,
            feature=self.feature + other.feature,
        )


class Classification(Accumulator[_CofiringSums]):
    r"""Streams how often each latent and each feature fire together.

    With weighted counts $n_{ji}$ of samples on which latent $j$ and feature $i$ both fire, $n_j$ of
    those on which the latent does and $m_i$ of those on which the feature does:

    $$\text{precision}_j = n_{ji}/n_j, \quad \text{recall}_j = n_{ji}/m_i, \quad
      F1_j = 2 n_{ji} / (n_j + m_i), \quad i = i(j)$$

    A latent fires if its latent activation is not 0, whatever its sign. What counts as its feature
    $i(j)$ is a choice, made in `result`, that changes the number. The counts take 8 bytes for every
    pair of latent and feature of every member.

    >>> seen = Classification()
    >>> z = torch.tensor([[[1.0], [1.0], [0.0], [0.0]]])
    >>> seen.update(z, torch.tensor([[True], [False], [True], [False]]))
    >>> seen.result().f1
    tensor([[0.5000]], dtype=torch.float64)
    """

    def update(
        self,
        z: Float[Tensor, "member batch latent"],
        fires: Bool[Tensor, "*lead batch feature"],
        weight: Real[Tensor, " batch"] | None = None,
    ) -> None:
        """Include a batch.

        **Arguments:**
        - `z`: latent activations.
        - `fires`: which features (or any labels) are on, shared by all members or one per member.
        - `weight`: weight of each sample, such as a probability or a number of repetitions.

        **Raises:** `ShapeError` if the shapes do not fit; `DataError` for bad weights or for truth
        that is not Boolean.
        """
        z = per_member(z, "z", "latent")
        members, batch, _ = z.shape
        if fires.dtype != torch.bool:
            raise DataError(
                f"`fires` is {fires.dtype}; expected torch.bool, True where a feature fires. From "
                "the features' magnitudes, pass `magnitudes != 0`."
            )
        fires = shared_or_per_member(
            fires, "fires", "feature", members=members, batch=batch, beside="z"
        )
        w, (z, fires) = weighted(weight, z, fires)
        if not len(w):
            return
        # Counts below 2^24 are exact in float32, which is the faster product.
        exact = torch.float32 if weight is None and len(w) < 2**24 else torch.float64
        latent = (z != 0).to(exact)
        feature = fires.to(exact)
        weighted_feature = feature * w.to(exact).unsqueeze(-1)
        self._include(
            _CofiringSums(
                n=len(w),
                weight=w.sum(),
                both=(latent.mT @ weighted_feature).double(),
                latent=(w.to(exact) @ latent).double(),
                feature=(w.to(exact) @ feature).double(),
            )
        )

    def counts(self) -> CofiringCounts:
        """The counts themselves, from which other scores can be made.

        **Raises:** `DataError` if no sample has been seen.
        """
        seen = self._seen()
        return CofiringCounts(
            both=seen.both,
            latent=seen.latent,
            feature=seen.feature.expand(len(seen.both), -1),
            n=seen.n,
            weight=seen.weight.item(),
        )

    def result(
        self,
        feature: Int[Tensor, "member latent"] | None = None,
        *,
        chosen_by: Choice = "f1",
        mask: Bool[Tensor, "member latent"] | None = None,
    ) -> ClassificationResult:
        """Scores of each latent against its feature.

        Three choices of the feature, each with its own metric name:

        - `f1`: the feature on which the latent's F1 is highest. Needs no directions. Chosen on the
          samples that score it, so it flatters latents when firings are few.
        - `match`: pass `match(decoder, features).feature`. No two latents share a feature; spare
          latents have none and score 0.
        - `cosine`: pass `nearest_feature(decoder, features).feature`. Duplicates all score.

        The macro means include latents that never fire, at 0. They do not notice features that no
        latent stands for, and reward a narrow SAE of easy features; `f1_coverage` does notice.

        **Arguments:**
        - `feature`: the feature of each latent, -1 for none; only for `match` and `cosine`.
        - `chosen_by`: how it was chosen.
        - `mask`: True where a latent exists; False marks padding, which is left out of the means.

        **Raises:** `DataError` if no sample has been seen; `ConfigError` if `feature` and
        `chosen_by` contradict each other; `ShapeError` if a shape does not fit.
        """
        counts = self.counts()
        exists = existing(mask, tuple(counts.latent.shape), counts.latent.device)
        best, feature_f1 = _best_f1(counts, exists)
        if feature is None and chosen_by == "f1":
            chosen = best
        elif feature is None or chosen_by not in ("match", "cosine"):
            raise ConfigError(
                f"`chosen_by` is {chosen_by!r} and `feature` is "
                f"{'not given' if feature is None else 'given'}; expected `feature` together with "
                "chosen_by='match' or 'cosine', or no `feature` with chosen_by='f1'."
            )
        else:
            chosen = _checked(feature, counts, chosen_by)
        has = exists & (chosen >= 0)
        index = chosen.clamp_min(0)
        both = torch.where(has, _pick(counts.both, index), 0.0)
        of_feature = counts.feature.gather(-1, index)
        precision = _share(both, counts.latent)
        recall = _share(both, of_feature)
        f1 = _share(2 * both, counts.latent + of_feature)
        width = exists.double().sum(-1)
        return ClassificationResult(
            precision=precision,
            recall=recall,
            f1=f1,
            feature=torch.where(has, chosen, -1),
            chosen_by=chosen_by,
            macro_precision=precision.sum(-1) / width,
            macro_recall=recall.sum(-1) / width,
            macro_f1=f1.sum(-1) / width,
            feature_f1=feature_f1,
            f1_coverage=feature_f1.mean(-1),
            n=counts.n,
            weight=counts.weight,
        )


def _best_f1(
    counts: CofiringCounts, exists: Bool[Tensor, "member latent"]
) -> tuple[Int64[Tensor, "member latent"], Float64[Tensor, "member feature"]]:
    """Best feature of each latent (-1 if no F1 is positive), and best F1 of each feature."""
    members, latents, features = counts.both.shape
    chosen, feature_f1 = [], torch.zeros_like(counts.feature)
    for chunk in row_chunks(latents, members * features):
        total = counts.latent[:, chunk, None] + counts.feature[:, None]
        f1 = _share(2 * counts.both[:, chunk], total)
        f1 = torch.where(exists[:, chunk, None], f1, 0.0)
        best = f1.max(dim=-1)
        chosen.append(torch.where(best.values > 0, best.indices, -1))
        feature_f1 = torch.maximum(feature_f1, f1.amax(dim=-2))
    return torch.cat(chosen, -1), feature_f1


def _checked(feature: Tensor, counts: CofiringCounts, chosen_by: str) -> Tensor:
    if feature.shape != counts.latent.shape:
        raise ShapeError(
            f"`feature` has shape {shape_of(feature)}; expected one feature for every latent, "
            f"{shape_of(counts.latent)}. Pass the `feature` field of `match` or `nearest_feature`."
        )
    feature = readable(feature).to(counts.both.device).long()
    features = counts.feature.shape[-1]
    if not bool(((feature >= -1) & (feature < features)).all()):
        raise DataError(
            f"`feature` holds indices from {feature.min().item()} to {feature.max().item()}, but "
            f"{features} features were seen; expected -1 to {features - 1}. Was it chosen "
            f"by {chosen_by} among other features?"
        )
    return feature


def _pick(
    table: Float64[Tensor, "member latent feature"], index: Int64[Tensor, "member latent"]
) -> Float64[Tensor, "member latent"]:
    return table.gather(-1, index.unsqueeze(-1)).squeeze(-1)


def _share(part: Float64[Tensor, "*shape"], whole: Float64[Tensor, "*shape"]) -> Tensor:
    """part / whole, and 0 where the whole is 0; rounding may not take it above 1."""
    return torch.where(whole > 0, part / whole, 0.0).clamp_max(1)
