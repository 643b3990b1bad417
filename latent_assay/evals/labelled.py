"""Activations with labels, from a language model or from a world in which the truth is known."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from latent_assay.errors import ShapeError


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """Activations, each positive or negative in each of several tasks."""

    x: Float[Tensor, "sample d_in"]
    """What an SAE reads."""
    labels: Bool[Tensor, "sample task"]
    """Which samples are positive in which task."""
    tasks: Sequence[str]
    """The tasks' names."""
    groups: Int[Tensor, " sample"] | None = None
    """Samples of one group, such as a document, stay on one side of every split."""

    def __post_init__(self) -> None:
        if len(self.x) != len(self.labels) or self.labels.shape[1] != len(self.tasks):
            raise ShapeError(
                f"x {list(self.x.shape)} and labels {list(self.labels.shape)} do not belong to "
                f"{len(self.tasks)} tasks; expected a row of both for each sample, a column of "
                "labels for each task."
            )


def one_hot(labels: Sequence[str], tasks: Sequence[str]) -> Bool[Tensor, "sample task"]:
    """One column per task, true where a sample has its label.

    >>> one_hot(["b", "a"], ["a", "b"])
    tensor([[False,  True],
            [ True, False]])
    """
    number = {task: i for i, task in enumerate(tasks)}
    columns = torch.tensor([number.get(label, -1) for label in labels])
    return columns[:, None] == torch.arange(len(tasks))
