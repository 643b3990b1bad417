"""How far activations reach along decoder rows that should have nothing to do with them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Real
from torch import Tensor

from latent_assay.errors import ConfigError, DataError, ShapeError
from latent_assay.metrics.accumulator import Accumulator, Sums
from latent_assay.metrics.directions import unit_rows
from latent_assay.metrics.registry import Measured
from latent_assay.metrics.samples import existing, readable, shape_of, weighted

_ENTRIES = 2**22
_DROPPED = 13
_SLOTS = 2 ** (32 - _DROPPED)
_HALF = _SLOTS // 2


@dataclass(frozen=True, kw_only=True)
class NthDecoderProjectionResult(Measured):
    """The n-th largest projection of each member."""

    nth_decoder_projection: Float64[Tensor, " member"]
    """$s_n$, in units of the activations."""
    n: Float64[Tensor, " member"]
    """Which n, of each member."""
    samples: int
    """Number of samples with positive weight."""


@dataclass(frozen=True, kw_only=True)
class _ProjectionSums(Sums):
    counts: Float64[Tensor, "member slot"]
    """Weight of the projections in each slot, in ascending order."""

    @property
    def sizes(self) -> dict[str, int]:
        return {"member": self.counts.shape[0]}

    def __add__(self, other: "_ProjectionSums") -> "_ProjectionSums":
        return _ProjectionSums(
            n=self.n + other.n,
            weight=self.weight + other.weight,
            counts=self.counts + other.counts,
        )


class NthDecoderProjection(Accumulator[_ProjectionSums]):
    r"""Streams the n-th decoder projection $s_n$.

    All projections of a batch of $B$ samples on the $L$ unit decoder rows are pooled,

    $$P = \{ \hat d_j \cdot (x_s - b_{dec}) : s = 1 \dots B,\; j = 1 \dots L \},$$

    and $s_n$ is the $(n B)$-th largest of them: the projection that an activation exceeds on $n$
    latents on average. With more than the true L0 of an SAE whose latents each stand for one of
    several nearly orthogonal features, it is about 0; where latents mix features it is larger. So
    take $n$ well above any L0 in question. It is smallest near the right L0. In the limit of many
    samples it is the quantile $1 - n / L$ of all projections; at $n = L/2$ the median.

    Projections are counted in slots of a width of $2^{-10}$ of their size, fixed before the first
    sample, so that memory does not grow with samples (4 MB for a member) and the order and size
    of batches change nothing; within a slot, $s_n$ is interpolated. Weights equal repetitions.

    **Arguments:**
    - `decoder`: latent directions $d_j$, of any length. A zero row is left out.
    - `b_dec`: of each member; zero if None.
    - `mask`: True for the latents that count; False for padding, and for latents that never fire.

    **Raises:** `ShapeError` if shapes do not fit; `DataError` for weights that are not finite, or
    a member without any latent.

    **Reference:** Chanin and Garriga-Alonso 2025, "Sparse but Wrong", arXiv:2508.16560. Their code
    takes the value behind the $(n B)$-th, which is the same in the limit.

    >>> seen = NthDecoderProjection(torch.eye(2)[None])
    >>> seen.update(torch.tensor([[4.0, 0.5], [1.0, 2.0]]))
    >>> [round(seen.result(n).nth_decoder_projection.item(), 2) for n in (1, 2)]
    [2.0, 0.5]
    """

    def __init__(
        self,
        decoder: Float[Tensor, "member latent d_in"],
        b_dec: Float[Tensor, "member d_in"] | None = None,
        *,
        mask: Bool[Tensor, "member latent"] | None = None,
    ) -> None:
        super().__init__()
        if decoder.dim() != 3:
            raise ShapeError(
                f"`decoder` has shape {shape_of(decoder)}; expected [member, latent, d_in]. A "
                "single SAE is one member: pass `decoder[None]`."
            )
        rows = unit_rows(decoder, "decoder")
        members, _, d_in = rows.shape
        bias = rows.new_zeros(members, d_in) if b_dec is None else readable(b_dec).double()
        if bias.shape != (members, d_in):
            raise ShapeError(
                f"`b_dec` has shape {shape_of(bias)}; expected [{members}, {d_in}], one for each "
                "member of `decoder`."
            )
        if not bool(bias.isfinite().all()):
            raise DataError("`b_dec` must be finite. Did that member's training diverge?")
        counts = existing(mask, tuple(rows.shape[:2]), rows.device) & (rows != 0).any(-1)
        self._rows = [member[one] for member, one in zip(rows, counts, strict=True)]
        self._offsets = [r @ b for r, b in zip(self._rows, bias, strict=True)]

    @property
    def latents(self) -> tuple[int, ...]:
        """How many latents of each member count."""
        return tuple(len(rows) for rows in self._rows)

    def update(
        self,
        x: Float[Tensor, "batch d_in"],
        weight: Real[Tensor, " batch"] | None = None,
    ) -> None:
        """Include a batch.

        **Arguments:**
        - `x`: activations, as the SAE reads them.
        - `weight`: weight of each sample, such as a probability or a number of repetitions.

        **Raises:** `ShapeError` if d_in differs; `DataError` for activations that are not finite.
        """
        d_in = self._rows[0].shape[-1]
        if x.dim() != 2 or x.shape[-1] != d_in:
            raise ShapeError(f"`x` has shape {shape_of(x)}; expected [batch, {d_in}].")
        w, (found,) = weighted(weight, readable(x)[None])
        x = found[0].to(self._rows[0])
        if not len(w):
            return
        if not bool(x.isfinite().all()):
            raise DataError("`x` holds numbers that are not finite; leave those samples out.")
        counts = x.new_zeros(len(self._rows), _SLOTS)
        for member, (rows, offset) in enumerate(zip(self._rows, self._offsets, strict=True)):
            step = max(1, _ENTRIES // max(1, len(rows)))
            for block, weights in zip(x.split(step), w.split(step), strict=True):
                slots = _slot(block @ rows.T - offset)
                counts[member] += torch.bincount(
                    slots.flatten(),
                    weights.repeat_interleave(len(rows)),
                    minlength=_SLOTS,
                )
        self._include(_ProjectionSums(n=len(w), weight=w.sum(), counts=counts))

    def result(
        self, n: float | int | Sequence[float | int] | None = None
    ) -> NthDecoderProjectionResult:
        """$s_n$ of what has been seen so far.

        **Arguments:**
        - `n`: one number for all members, or one for each, above 0 and at most the number of
          latents that count; None for half of those.

        **Raises:** `DataError` if no sample has been seen; `ConfigError` if `n` is out of range.
        """
        seen = self._seen()
        if n is None:
            wanted = [latents / 2 for latents in self.latents]
        else:
            wanted = list(n) if isinstance(n, Sequence) else [n] * len(self._rows)
        if len(wanted) != len(self._rows) or not all(
            0 < one <= latents for one, latents in zip(wanted, self.latents, strict=False)
        ):
            raise ConfigError(
                f"`n` is {n}; expected a number above 0 and at most the number of latents that "
                f"count ({', '.join(map(str, self.latents))}), or one for each member."
            )
        order = torch.tensor(wanted, dtype=torch.float64, device=seen.counts.device)
        # from the largest down: the slot in which the weight of n samples' worth is reached
        from_above = seen.counts.flip(-1).cumsum(-1)
        target = (order * seen.weight).unsqueeze(-1)
        # sums of weights are rounded; the last projection of all is still there
        target = torch.minimum(target * (1 - 1e-12), from_above[:, -1:])
        place = torch.searchsorted(from_above, target).clamp_max(_SLOTS - 1)
        inside = seen.counts.flip(-1).gather(-1, place)
        before = from_above.gather(-1, place) - inside
        part = ((target - before) / inside).clamp(0, 1)
        slot = (_SLOTS - 1 - place).squeeze(-1)
        low, high = _edge(slot), _edge(slot + 1)
        return NthDecoderProjectionResult(
            nth_decoder_projection=high - part.squeeze(-1) * (high - low),
            n=order,
            samples=seen.n,
        )


def _slot(values: Float64[Tensor, "*shape"]) -> Tensor:
    """Ascending slots: the leading bits of a float32 are its size to a relative precision."""
    bits = values.float().abs().view(torch.int32).long() >> _DROPPED
    return torch.where(values < 0, _HALF - 1 - bits, _HALF + bits)


def _edge(slot: Tensor) -> Float64[Tensor, " member"]:
    """Lower edge of a slot."""
    bits = torch.where(slot >= _HALF, slot - _HALF, _HALF - slot) << _DROPPED
    size = bits.int().view(torch.float32).double()
    return torch.where(slot >= _HALF, size, -size)
