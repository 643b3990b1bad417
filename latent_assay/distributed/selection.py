"""Which latents fire, decided over the latents of all ranks, exactly."""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from latent_assay.distributed.ranks import Ranks
from latent_assay.kernels import batch_threshold, largest_places


def largest_over_ranks(
    values: Float[Tensor, "member batch latent"], k: int | Int[Tensor, " member"], ranks: Ranks
) -> Bool[Tensor, "member batch latent"]:
    """Which of this rank's values are among the k largest of their sample, on all ranks together.

    Each rank offers its k largest, the winners are chosen among those, on every rank alike. Of
    equal values at the border some win, so that never more than k do; which ones may differ from
    what one process would choose.

    **Arguments:**
    - `values`: those of this rank's latents, of which it may have any number.
    - `k`: how many win, for all members or for each.
    - `ranks`: all ranks.
    """
    most = k if isinstance(k, int) else int(k.max())
    here = min(most, values.shape[-1])
    place = largest_places(values.detach(), here)
    offered = values.detach().gather(-1, place)
    offers = offered.new_full((*values.shape[:2], most), -math.inf)
    offers[..., :here] = offered
    everyone = torch.cat(ranks.gather(offers), dim=-1)
    order = everyone.topk(most, dim=-1).indices
    limit = torch.as_tensor(k, device=values.device).view(-1, 1, 1)
    wins = (torch.arange(most, device=values.device) < limit).expand(order.shape)
    won = torch.zeros_like(everyone, dtype=torch.bool).scatter_(-1, order, wins)
    own = won[..., ranks.rank * most : ranks.rank * most + here]
    return torch.zeros_like(values, dtype=torch.bool).scatter_(-1, place, own)


def threshold_over_ranks(
    pre: Float[Tensor, "member batch latent"],
    k: Float[Tensor, " member"],
    weight: Float[Tensor, "*lead batch"] | None,
    ranks: Ranks,
) -> Float[Tensor, " member"]:
    r"""`batch_threshold` of the latents of all ranks, equal to the last bit.

    The $\lceil kB \rceil$-th largest value of all is found among the $\lceil kB \rceil$ largest of
    each rank, which are exchanged: $N k B$ numbers, little beside the reconstruction as long as
    $N k$ is small beside d_in. Where samples have weights, all values are.

    **Arguments:** as of `batch_threshold`, `pre` being that of this rank's latents.
    """
    members, batch, width = pre.shape
    if weight is not None:
        sizes = ranks.gather(torch.tensor(width, device=pre.device))
        widest = int(torch.stack(sizes).max())
        padded = torch.nn.functional.pad(pre.detach(), [0, widest - width], value=-math.inf)
        return batch_threshold(torch.cat(ranks.gather(padded), dim=-1), k, weight)
    # as in `batch_threshold`: a hair less, so that k = 0.1 and 30 samples ask for 3 and not for 4
    wanted = [max(math.ceil(float(each) * batch * (1 - 1e-12)), 1) for each in k]
    most = max(wanted)
    flat = pre.detach().reshape(members, -1)
    offered = _largest(flat, min(most, flat.shape[1]))
    offers = flat.new_full((members, most), -math.inf)
    offers[:, : offered.shape[1]] = offered
    everyone = torch.cat(ranks.gather(offers), dim=-1).unsqueeze(1)
    # one sample holds all candidates, so that k is the rank of the threshold among them
    return batch_threshold(everyone, torch.tensor(wanted, dtype=torch.float64))


def _largest(values: Float[Tensor, "member value"], count: int) -> Float[Tensor, "member count"]:
    """The `count` largest values of each row, in any order."""
    if values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64):
        rows = values.numpy()  # partition is about ten times faster than topk on CPU
        start = values.shape[1] - count
        return torch.from_numpy(np.partition(rows, start, axis=1)[:, start:]) if start else values
    return values.topk(count, dim=-1, sorted=False).values
