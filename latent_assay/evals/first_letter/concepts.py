"""Activations that have or lack each of several concepts, some to fit on and some to score."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Bool, Float
from torch import Tensor

from latent_assay.errors import DataError, ShapeError


@dataclass(frozen=True, kw_only=True, eq=False)
class Concepts:
    """Samples with concepts: words with first letters, or samples of a world with its features."""

    x: Float[Tensor, "sample d_in"]
    """What an SAE reads."""
    labels: Bool[Tensor, "sample concept"]
    """Which concepts a sample has."""
    names: Sequence[str]
    """The concepts' names."""
    test: Bool[Tensor, " sample"]
    """Which samples score; probes are fitted on the others."""
    samples: Sequence[str] = ()
    """The samples' names, such as words; may be empty."""
    left_out: dict[str, str] | None = None
    """Concepts that are not among them for lack of samples, and why."""

    def __post_init__(self) -> None:
        n, concepts = self.labels.shape
        if len(self.x) != n or len(self.test) != n or len(self.names) != concepts:
            raise ShapeError(
                f"x {list(self.x.shape)}, labels {list(self.labels.shape)} and test "
                f"{list(self.test.shape)} do not belong to {len(self.names)} concepts; expected a "
                "row of each for every sample, a column of labels for each concept."
            )

    def with_support(self, minimum: int) -> "Concepts":
        """The same without concepts that too few training or test samples have.

        A concept needs `minimum` training samples and a quarter of that (at least 2) test samples.

        **Raises:** `DataError` if none is left.
        """
        few = max(2, minimum // 4)
        n_train = self.labels[~self.test].sum(0).tolist()
        n_test = self.labels[self.test].sum(0).tolist()
        absent = (~self.labels).sum(0).tolist()
        left_out = dict(self.left_out or {})
        kept = []
        for number, name in enumerate(self.names):
            if n_train[number] < minimum or n_test[number] < few:
                left_out[name] = (
                    f"{int(n_train[number])} training and {int(n_test[number])} test samples; "
                    f"expected {minimum} and {few}"
                )
            elif absent[number] < minimum:
                left_out[name] = "all samples have it"
            else:
                kept.append(number)
        if not kept:
            raise DataError(
                f"no concept has enough samples: {next(iter(left_out.items()), ('', ''))}. Give "
                "more samples."
            )
        return replace(
            self,
            labels=self.labels[:, kept],
            names=[self.names[number] for number in kept],
            left_out=left_out,
        )
