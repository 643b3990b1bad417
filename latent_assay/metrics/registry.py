"""Every headline number by name: what it means, and which direction is better.

A name is for ever: when a definition changes, its `version` goes up, and numbers of different
versions are never put in one table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Literal

from torch import Tensor

from latent_assay.errors import ConfigError, did_you_mean

Direction = Literal["higher", "lower", "neutral"]
"""Which way is better; a neutral metric describes and does not rank."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a number means."""

    name: str
    """The word for it in results, files and reports."""
    direction: Direction
    """Which way is better."""
    unit: str
    """Unit of the number; `1` for a ratio."""
    definition: str
    """One sentence."""
    version: int = 1
    """Raised whenever the definition changes."""

    @property
    def id(self) -> str:
        """Name and version together, such as `fvu/v1`."""
        return f"{self.name}/v{self.version}"


def _classification() -> list[Metric]:
    choices = {
        "f1": "that gives it the highest F1 on the same samples",
        "match": "that the Hungarian matching of decoder cosines gives it",
        "cosine": "with the largest decoder cosine",
    }
    scores = {
        "precision": "share of its firings in which the feature fires too",
        "recall": "share of the feature's firings in which it fires too",
        "f1": "harmonic mean of precision and recall",
    }
    return [
        Metric(
            name=f"{score}_by_{choice}",
            direction="higher",
            unit="1",
            definition=(
                f"Mean over latents of the {meaning}, each latent judged against the feature "
                f"{chosen}; a latent that never fires, or has no feature, scores 0."
            ),
        )
        for score, meaning in scores.items()
        for choice, chosen in choices.items()
    ]


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in [
            Metric(
                name="mse",
                direction="lower",
                unit="squared activation",
                definition="Squared error summed over d_in, mean over samples.",
            ),
            Metric(
                name="fvu",
                direction="lower",
                unit="1",
                definition=(
                    "Fraction of variance unexplained: summed squared error over summed squared "
                    "distance of x from its mean over all samples."
                ),
            ),
            Metric(
                name="explained_variance",
                direction="higher",
                unit="1",
                definition="1 minus the fraction of variance unexplained.",
            ),
            Metric(
                name="cosine",
                direction="higher",
                unit="1",
                definition="Mean cosine of x and its reconstruction, over samples with x not 0.",
            ),
            Metric(
                name="shrinkage",
                direction="neutral",
                unit="1",
                definition=(
                    "Mean ratio of the reconstruction's length to that of x, over samples with x "
                    "not 0; 1 is no shrinkage."
                ),
            ),
            Metric(
                name="relative_reconstruction_bias",
                direction="neutral",
                unit="1",
                definition=(
                    "Mean squared length of the reconstruction over its mean inner product with "
                    "x; below 1, scaling the reconstruction up would lower the error."
                ),
            ),
            Metric(
                name="l0",
                direction="neutral",
                unit="latents",
                definition="Mean number of latents that fire on a sample.",
            ),
            Metric(
                name="l1",
                direction="neutral",
                unit="latent activation",
                definition="Mean over samples of the summed magnitudes of latent activations.",
            ),
            Metric(
                name="frac_alive",
                direction="higher",
                unit="1",
                definition="Share of latents that fired at least once on the samples seen.",
            ),
            Metric(
                name="n_dead",
                direction="lower",
                unit="latents",
                definition="Number of latents that never fired on the samples seen.",
            ),
            Metric(
                name="mmcs",
                direction="higher",
                unit="1",
                definition=(
                    "Mean over true features of the largest cosine with any decoder direction."
                ),
            ),
            Metric(
                name="mcc",
                direction="higher",
                unit="1",
                definition=(
                    "Sum of |cosine| over the Hungarian matching of latents to features that "
                    "maximises it, divided by the smaller of their two numbers."
                ),
            ),
            Metric(
                name="mcc_signed",
                direction="higher",
                unit="1",
                definition=(
                    "Sum of cosines over the Hungarian matching of latents to features that "
                    "maximises it, divided by the smaller of their two numbers."
                ),
            ),
            Metric(
                name="uniqueness",
                direction="higher",
                unit="1",
                definition=(
                    "Number of distinct features that are some latent's nearest by |cosine|, "
                    "divided by the number of latents."
                ),
            ),
            Metric(
                name="encoder_decoder_cosine",
                direction="neutral",
                unit="1",
                definition="Mean over latents of the cosine of encoder and decoder direction.",
            ),
            Metric(
                name="decoder_pairwise_cosine",
                direction="neutral",
                unit="1",
                definition=(
                    "Mean |cosine| over all pairs of decoder rows of living latents; among SAEs of "
                    "one width it is smallest near the right L0."
                ),
            ),
            Metric(
                name="nth_decoder_projection",
                direction="neutral",
                unit="activation",
                definition=(
                    "The projection of x − b_dec on unit decoder rows that a sample exceeds on n "
                    "living latents on average, n being half of them unless stated; nearest to 0 "
                    "around the right L0."
                ),
            ),
            *_classification(),
            Metric(
                name="f1_coverage",
                direction="higher",
                unit="1",
                definition=(
                    "Mean over true features of the highest F1 that any latent reaches on it."
                ),
            ),
        ]
    }
)
"""All headline metrics by name, in the order in which tables show them."""


def metric(name: str) -> Metric:
    """The metric of a name.

    **Raises:** `ConfigError` if there is none, naming the nearest.

    >>> metric("fvu").direction
    'lower'
    """
    if name not in METRICS:
        raise ConfigError(
            f"there is no metric `{name}`; expected one of {', '.join(METRICS)}."
            f"{did_you_mean(name, METRICS)}"
        )
    return METRICS[name]


class Measured:
    """A result that knows which of its fields are headline metrics."""

    def metrics(self) -> dict[str, Tensor]:
        """The headline numbers, one per member, by their name in `METRICS`."""
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        return {name: getattr(self, name) for name in names if name in METRICS}
