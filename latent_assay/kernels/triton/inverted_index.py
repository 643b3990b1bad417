"""For each latent, the entries in which it fires: what its weights' gradients are summed over."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from latent_assay.kernels.selection import Selection

# Latents with more entries than this are summed by several programs.
_LONGEST = 256


@dataclass(frozen=True, kw_only=True)
class InvertedIndex:
    """Entries by latent, for the encoder's gradient and the decoder's alike."""

    entry: Int[Tensor, " entry"]
    """The entries of latent 0, then those of latent 1, and so on, each in their old order."""
    start: Int[Tensor, " latent_plus_one"]
    """Where each latent begins in `entry`."""
    chunk_start: Int[Tensor, " latent_plus_one"]
    """Where each latent begins among the chunks; only latents with many entries have any."""
    chunk_first: Int[Tensor, " chunk"]
    """Where each chunk begins in `entry`."""
    chunk_last: Int[Tensor, " chunk"]
    """Where it ends; at its beginning for the places kept for chunks that do not exist."""

    @classmethod
    def of(
        cls, column: Int[Tensor, " entry"], latents: int, *, longest: int = _LONGEST
    ) -> "InvertedIndex":
        """Sort the entries by latent.

        The number of chunks depends on the data, and asking for it would wait for the device. It
        is at most twice the number of entries over `longest`, and room is made for so many.

        **Arguments:**
        - `column`: the latent of each entry.
        - `latents`: how many latents there are.
        - `longest`: latents with more entries than this are cut into chunks of so many.
        """
        device = column.device
        entries = column.numel()
        # half the digits to sort by
        key = column.to(torch.int32) if latents < 2**31 else column
        ordered, entry = key.sort(stable=True)
        start = torch.searchsorted(
            ordered, torch.arange(latents + 1, dtype=key.dtype, device=device)
        )
        count = start.diff()
        chunks = torch.where(count > longest, (count + longest - 1) // longest, 0)
        chunk_start = torch.zeros_like(start)
        torch.cumsum(chunks, 0, out=chunk_start[1:])
        chunk = torch.arange(2 * entries // longest, device=device)
        latent = torch.searchsorted(chunk_start, chunk, right=True) - 1
        exists = latent < latents
        latent = latent.clamp_max(latents - 1)
        first = start[latent] + (chunk - chunk_start[latent]) * longest
        last = torch.minimum(first + longest, start[latent + 1])
        return cls(
            entry=entry,
            start=start,
            chunk_start=chunk_start,
            chunk_first=torch.where(exists, first, 0),
            chunk_last=torch.where(exists, last, 0),
        )


def inverted_index(selection: Selection) -> InvertedIndex:
    """The index of a selection, built when it is first asked for and kept with it."""
    kept = selection.__dict__
    if "inverted_index" not in kept:
        kept["inverted_index"] = InvertedIndex.of(
            selection.column, selection.members * selection.width
        )
    index = kept["inverted_index"]
    assert isinstance(index, InvertedIndex)
    return index
