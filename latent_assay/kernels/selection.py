"""Which latents fire, as lists of indices rather than as a mask over every latent."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from latent_assay.kernels import triton
from latent_assay.kernels.dispatch import uses_triton


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The candidates to fire, in compressed rows: a row per sample, members one below the other.

    Columns rise in every row.
    """

    members: int
    """Number of members."""
    batch: int
    """Samples per member."""
    width: int
    """Latents per member."""
    row_start: Int[Tensor, " row_plus_one"]
    """Where each of the `members * batch` rows begins in `column`."""
    column: Int[Tensor, " entry"]
    """`member * width + latent` of each entry."""

    @cached_property
    def row(self) -> Int[Tensor, " entry"]:
        """`member * batch + sample` of each entry."""
        return torch.repeat_interleave(
            torch.arange(self.members * self.batch, device=self.column.device),
            self.row_start.diff(),
            output_size=self.column.numel(),
        )

    @cached_property
    def latent(self) -> Int[Tensor, " entry"]:
        """The latent's index within its member."""
        return self.column % self.width

    @cached_property
    def by_column(self) -> tuple[Int[Tensor, " entry"], Int[Tensor, " column_plus_one"]]:
        """The entries in the order of their columns, and where each column begins."""
        return by_column(self.column, self.members * self.width)

    @cached_property
    def place(self) -> Int[Tensor, " entry"]:
        """Where each entry stands in a dense tensor that is flattened."""
        return self.row * self.width + self.latent

    def gather(self, dense: Float[Tensor, "member batch latent"]) -> Float[Tensor, " entry"]:
        """The entries of a dense tensor at the selected places."""
        return dense.reshape(-1).index_select(0, self.place)

    @classmethod
    def at(
        cls, place: Int[Tensor, " entry"], *, members: int, batch: int, width: int
    ) -> "Selection":
        """The entries at some places of a dense tensor that is flattened, in rising order."""
        rows = members * batch
        ends = torch.arange(rows + 1, device=place.device) * width
        row_start = torch.searchsorted(place, ends)
        row = torch.div(place, width, rounding_mode="floor")
        column = place - row * width
        if members > 1:
            column += torch.div(row, batch, rounding_mode="floor") * width
        made = cls(members=members, batch=batch, width=width, row_start=row_start, column=column)
        made.__dict__.update(place=place, row=row)
        return made


def by_column(
    column: Int[Tensor, " entry"], columns: int
) -> tuple[Int[Tensor, " entry"], Int[Tensor, " column_plus_one"]]:
    """Entries in the order of their columns, and where each of so many columns begins."""
    start = torch.zeros(columns + 1, dtype=torch.int64, device=column.device)
    start[1:] = torch.bincount(column, minlength=columns).cumsum(0)
    return column.sort(stable=True).indices, start


# Entries in a group, and the width from which on groups pay.
_GROUP, _WIDE = 16, 2**10
# From this many values on, a look at a sample of them pays.
_LARGE = 2**17
# Up to this many values per member, calls cost more than they compute.
_SMALL = 2**11
# A prime, so that a sample of every so-manyth value visits all latents whatever the width.
_STRIDE = 61
# Entries that are compared at once: few enough to stay in the cache.
_PIECE = 2**20


def select_topk(pre: Float[Tensor, "member batch latent"], k: int) -> Selection:
    """The k largest entries of every sample. Equal entries are taken in no particular order."""
    members, batch, width = pre.shape
    index = largest_places(pre.detach(), k)
    offset = torch.arange(members, device=pre.device).view(-1, 1, 1) * width
    return Selection(
        members=members,
        batch=batch,
        width=width,
        row_start=torch.arange(members * batch + 1, device=pre.device) * k,
        column=(index + offset).reshape(-1),
    )


def largest_places(
    pre: Float[Tensor, "member batch latent"], k: int
) -> Int[Tensor, "member batch selected"]:
    """The places of the k largest entries of every sample, in rising order.

    Wide rows on CPU are first cut into groups. At least k entries reach the k-th largest maximum of
    a group, namely those maxima, and hardly more do, so what is below it need not be ranked.
    """
    members, batch, width = pre.shape
    # with twice the entries in a group half the maxima have to be ranked
    group = 2 * _GROUP if 8 * k * _GROUP <= width else _GROUP
    if (
        pre.device.type == "cpu"
        and pre.dtype in (torch.float32, torch.float64)
        and width >= _WIDE
        and 4 * k * group <= width
    ):
        index = _largest_of_groups(pre.reshape(-1, width), k, group)
        if index is not None:
            return index.view(members, batch, k)
    return pre.topk(k, dim=-1, sorted=False).indices.sort(-1).values


def is_largest(
    z: Float[Tensor, "member batch latent"], k: int
) -> Float[Tensor, "member batch latent"]:
    """1 at the k largest entries of every sample, 0 elsewhere; entries equal to the k-th count."""
    z = z.detach()
    if z.device.type == "cpu" and z.dtype in (torch.float32, torch.float64):
        last = z.shape[-1] - k
        # partition is many times faster than `topk` on CPU where k is large
        least = np.partition(z.numpy(), last, axis=-1)[..., last : last + 1]
        return (z >= torch.from_numpy(least)).to(z.dtype)
    kept = z.topk(k, dim=-1, sorted=False).indices
    return torch.zeros_like(z).scatter_(-1, kept, 1.0)


def rows_at(
    matrix: Float[Tensor, "member latent d_in"], index: Int[Tensor, "member selected"]
) -> Float[Tensor, "member selected d_in"]:
    """Some rows of each member's matrix."""
    members, width, d_in = matrix.shape
    offset = torch.arange(members, device=index.device).unsqueeze(-1) * width
    rows = matrix.reshape(-1, d_in).index_select(0, (index + offset).flatten())
    return rows.view(members, index.shape[1], d_in)


def _largest_of_groups(
    rows: Float[Tensor, "row latent"], k: int, group: int
) -> Int[Tensor, "row selected"] | None:
    """None if a row holds NaN, which is neither large nor small, or too much of minus infinity."""
    count, width = rows.shape
    # entries of a group lie `groups` apart, so that the maxima are taken of whole vectors at once
    groups = width // group
    grouped = rows[:, : groups * group].unflatten(-1, (group, groups))
    maxima = grouped.amax(-2).numpy()
    cut = torch.from_numpy(
        np.partition(maxima, groups - k, axis=-1)[:, groups - k : groups - k + 1]
    )
    if not bool(cut.isfinite().all()):
        return None
    place = _reaching(rows.numpy(), cut.squeeze(-1).numpy())
    row = place // width
    found = np.bincount(row, minlength=count)
    if found.min(initial=k) < k:
        return None
    # what reaches the cut, a line per row, padded with what is smaller than everything
    slot = np.arange(place.size) - np.repeat(np.cumsum(found) - found, found)
    value = np.full((count, found.max(initial=k)), -np.inf, dtype=maxima.dtype)
    value[row, slot] = rows.reshape(-1).numpy()[place]
    column = np.zeros(value.shape, dtype=np.int64)
    column[row, slot] = place - row * width
    last = value.shape[1] - k
    least = np.partition(value, last, axis=-1)[:, last : last + 1]
    above, equal = value > least, value == least
    # exactly k, however many are equal to the smallest that is taken
    left = k - above.sum(-1, keepdims=True)
    taken = above | (equal & (np.cumsum(equal, axis=-1) <= left))
    return torch.from_numpy(column[taken].reshape(count, k))


def select_above(
    pre: Float[Tensor, "member batch latent"], cut: Float[Tensor, " member"]
) -> Selection:
    """The entries above each member's cut."""
    if uses_triton(pre):
        return triton.select_above(pre.detach(), cut, strict=True)
    return select_where(pre > cut.view(-1, 1, 1))


def select_where(mask: Bool[Tensor, "member batch latent"]) -> Selection:
    """The entries where a mask is true."""
    members, batch, width = mask.shape
    return Selection.at(_true_places(mask.reshape(-1)), members=members, batch=batch, width=width)


def select_largest(
    pre: Float[Tensor, "member batch latent"], k: Float[Tensor, " member"]
) -> tuple[Float[Tensor, " member"], Selection]:
    """`batch_threshold` of samples of equal weight, and the positive entries that reach it.

    On CPU both come from one list of candidates, so that the pre-activations are read once.
    """
    members, batch, width = pre.shape
    if pre.device.type != "cpu" or pre.dtype not in (torch.float32, torch.float64):
        threshold = batch_threshold(pre, k)
        return threshold, select_above(pre, below(threshold))
    flat = pre.detach().reshape(members, -1)
    cuts, places = [], []
    for member, (values, count) in enumerate(zip(flat, _counts(pre, k), strict=True)):
        place, ranked = _candidates(values, count)
        cut = max(float(np.partition(ranked, ranked.size - count)[ranked.size - count]), 0.0)
        kept = (ranked >= cut) & (ranked > 0)
        place = np.flatnonzero(kept) if place is None else place[kept]
        cuts.append(cut)
        places.append(place + member * batch * width)
    found = torch.from_numpy(places[0] if members == 1 else np.concatenate(places))
    selection = Selection.at(found, members=members, batch=batch, width=width)
    return torch.tensor(cuts, dtype=pre.dtype), selection


def below(threshold: Float[Tensor, " member"]) -> Float[Tensor, " member"]:
    """The cut above which whatever reaches a threshold lies, and nothing that is not positive."""
    return threshold.nextafter(torch.full_like(threshold, -math.inf)).clamp_min(0)


def _true_places(flat: Bool[Tensor, " entry"]) -> Int[Tensor, " true"]:
    if flat.device.type == "cpu":
        # numpy finds the true entries about four times faster than torch does on CPU
        return torch.from_numpy(np.flatnonzero(flat.numpy()))
    return flat.nonzero().squeeze(-1)


def kept_above(
    pre: Float[Tensor, "member batch latent"], cut: Float[Tensor, " member"]
) -> Float[Tensor, "member batch latent"]:
    """The entries above each member's cut; zero elsewhere. Differentiable in `pre`."""
    members = pre.shape[0]
    if pre.device.type == "cpu" and pre.numel() > _SMALL * members:
        # with a number in place of a tensor of conditions, fifteen times faster on CPU
        return torch.stack(
            [F.threshold(each, at, 0.0) for each, at in zip(pre, cut.tolist(), strict=True)]
        )
    return torch.where(pre > cut.view(-1, 1, 1), pre, 0.0)


def batch_threshold(
    pre: Float[Tensor, "member batch latent"],
    k: Float[Tensor, " member"],
    weight: Float[Tensor, "*lead batch"] | None = None,
) -> Float[Tensor, " member"]:
    r"""The largest threshold at which at least $k$ latents fire per sample, on average.

    $$\tau = \max\{t : \sum_b w_b \sum_j 1[z_{bj} \ge t] \ge k\}, \qquad z = \max(pre, 0)$$

    with $w_b = 1/B$ unless weights are given. It is the $\lceil kB \rceil$-th largest of all $z$,
    found by partition, not by sorting. **Ties:** every entry equal to $\tau$ fires, so that the
    result does not depend on the order of samples and a weighted pattern counts as that many equal
    samples; with ties more than $k$ may fire. If fewer than $k$ are positive, $\tau = 0$ and all of
    those fire.

    **Arguments:**
    - `pre`: pre-activations.
    - `k`: mean number of firing latents per sample, for each member; need not be an integer.
    - `weight`: weight of each sample, summing to 1.
    """
    members = len(pre)
    if weight is not None:
        return _weighted_threshold(pre, k, weight)
    if uses_triton(pre):
        return triton.threshold(pre.detach(), k)
    counts = _counts(pre, k)
    if pre.device.type == "cpu" and pre.dtype in (torch.float32, torch.float64):
        ranked = []
        for values, count in zip(pre.detach().reshape(members, -1), counts, strict=True):
            candidates = _candidates(values, count)[1]
            ranked.append(float(np.partition(candidates, -count)[-count]))
        return torch.tensor(ranked, dtype=pre.dtype).clamp_min(0)
    flat_pre = pre.detach().reshape(members, -1)
    return torch.stack(
        [
            row.topk(count, sorted=False).values.amin().clamp_min(0)
            for row, count in zip(flat_pre, counts, strict=True)
        ]
    )


def _counts(pre: Float[Tensor, "member batch latent"], k: Float[Tensor, " member"]) -> list[int]:
    """How many entries of each member fire in the batch."""
    _, batch, width = pre.shape
    # a hair less, so that k = 0.1 and 30 samples ask for 3 and not for 4
    return [min(max(math.ceil(float(each) * batch * (1 - 1e-12)), 1), batch * width) for each in k]


def _candidates(values: Float[Tensor, " entry"], rank: int) -> tuple[np.ndarray | None, np.ndarray]:
    """The places and values of what may be the rank-th largest or larger; None: everything is.

    Introselect finds the rank-th of these about ten times faster than torch.topk on CPU.
    """
    whole = values.numpy()
    if values.numel() >= _LARGE and rank * 8 < values.numel():
        # Most values are far too small to matter. A sample says from where on they may; the rest
        # is left aside, unless the sample misled.
        sample = whole[::_STRIDE]
        place = sample.size - (rank * 3 // (2 * _STRIDE) + 32)
        sample = np.partition(sample, place)
        above = _reaching(whole.reshape(1, -1), sample[[place]])
        if above.size >= rank:
            return above, whole[above]
    return None, whole


def _reaching(rows: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """The places of the entries at or above the cut of their row."""
    # piece by piece into the same memory, as fresh memory costs more than the comparison
    count, width = rows.shape
    high, wide = max(_PIECE // width, 1), min(width, _PIECE)
    room = np.empty((high, wide), dtype=bool)
    found = []
    for top in range(0, count, high):
        for left in range(0, width, wide):
            piece = rows[top : top + high, left : left + wide]
            reached = room[: piece.shape[0], : piece.shape[1]]
            np.greater_equal(piece, cut[top : top + high, None], out=reached)
            found.append(np.flatnonzero(reached) + (top * width + left))
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def _weighted_threshold(
    pre: Float[Tensor, "member batch latent"],
    k: Float[Tensor, " member"],
    weight: Float[Tensor, "*lead batch"],
) -> Float[Tensor, " member"]:
    members, _, width = pre.shape
    value, order = pre.detach().clamp_min(0).reshape(members, -1).sort(dim=-1, descending=True)
    each = weight.to(torch.float64).expand(members, -1).repeat_interleave(width, dim=-1)
    mass = each.gather(-1, order).cumsum(-1)
    # a hair below k, so that sums of probabilities that should equal k do
    hair = max(1e-12, 8 * torch.finfo(weight.dtype).eps)
    reached = mass >= k.to(torch.float64).unsqueeze(-1) * (1 - hair)
    first = torch.where(reached.any(-1), reached.to(torch.int8).argmax(-1), value.shape[-1] - 1)
    return value.gather(-1, first.unsqueeze(-1)).squeeze(-1)
