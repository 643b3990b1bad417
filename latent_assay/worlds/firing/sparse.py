"""Firing patterns as lists of what fires."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseFiring:
    """Which features fire, listed: as much memory as there are firings.

    >>> firing = SparseFiring.of(torch.tensor([[True, False], [True, True]]))
    >>> firing.rows, firing.features
    (tensor([0, 1, 1]), tensor([0, 0, 1]))
    """

    n: int
    """Number of samples."""
    n_features: int
    """Number of features."""
    cells: Int64[Tensor, " firing"]
    """Sample × `n_features` + feature of every firing, ascending, each once."""

    @classmethod
    def of(cls, firing: Bool[Tensor, "n feature"]) -> "SparseFiring":
        """The list for a matrix."""
        n, n_features = firing.shape
        return cls(n=n, n_features=n_features, cells=firing.flatten().nonzero()[:, 0])

    @classmethod
    def gathered(cls, cells: Int64[Tensor, " point"], *, n: int, n_features: int) -> "SparseFiring":
        """The list for cells in any order, each any number of times."""
        # half the bytes sort in half the time
        narrow = cells.int() if n * n_features < 2**31 else cells
        ordered = narrow.sort().values
        new = torch.ones_like(ordered, dtype=torch.bool)
        torch.ne(ordered[1:], ordered[:-1], out=new[1:])
        return cls(n=n, n_features=n_features, cells=ordered[new].long())

    @property
    def rows(self) -> Int64[Tensor, " firing"]:
        """The sample of every firing."""
        return self.cells.div(self.n_features, rounding_mode="floor")

    @property
    def features(self) -> Int64[Tensor, " firing"]:
        """The feature of every firing."""
        return self.cells - self.rows * self.n_features

    @property
    def starts(self) -> Int64[Tensor, " start"]:
        """Where each sample's firings start in the list, and at last their number."""
        bounds = torch.arange(self.n + 1, device=self.cells.device) * self.n_features
        return torch.searchsorted(self.cells, bounds)

    def dense(self) -> Bool[Tensor, "n feature"]:
        """The matrix for the list."""
        flat = torch.zeros(self.n * self.n_features, dtype=torch.bool, device=self.cells.device)
        flat[self.cells] = True
        return flat.view(self.n, self.n_features)
