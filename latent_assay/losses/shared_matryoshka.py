"""Nested losses in which later latents carry a share of their own, found during training."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latent_assay.errors import ConfigError
from latent_assay.losses.forward import Forward, Level, Progress
from latent_assay.losses.term import Term
from latent_assay.sparsifiers import PerMember


class SharedMatryoshka(Term):
    r"""A matryoshka loss with a balance coefficient for every pair of latents.

    In a matryoshka loss an early level must reconstruct alone, and so hedges what later latents
    stand for. Here each later latent $j$ helps the level by a share of what it adds, as a constant:

    $$\hat x_m = \sum_{i \le m} z_i d_i + b + \mathrm{sg}\Big[\sum_{j > m} s_j z_j d_j\Big], \qquad
      s_j = \mathrm{mean}_{i \le m,\ z_i > 0}\ c_{ij}$$

    Share 0 is the matryoshka loss, where hedging wins; share 1 is a plain SAE, where absorption
    wins. A controller finds the shares between: a parent's latent should be as strong with a child
    as without, so

    $$c_{ij} \leftarrow c_{ij} + g\, \frac{\mathbb E[z_i \mid i, j] - \mathbb E[z_i \mid i, \neg j]}
      {\mathbb E[z_i \mid i]}$$

    where conditions stand for latents that fire, and expectations run over recent batches. If $i$
    is stronger with $j$ it hedges, and the share rises; if weaker it is being absorbed, and the
    share falls. No true feature is looked at. A pair that never fires together, or always does,
    keeps its share. In a sample in which no latent of the level fires, later latents have share 1.

    **Arguments:**
    - `terms`, `levels`: as for `Matryoshka`, whose levels all count with coefficient 1 here.
    - `width`, `members`: the SAE's.
    - `initial`: the share of every pair at the start.
    - `gain`: $g$; it must be slow beside the learning of weights.
    - `window`: batches over which expectations reach back (exponentially).
    - `lowest`, `highest`: bounds of the shares. Below 0 a later latent works against the level,
      which children that are very rare need.

    **Reference:** proposed here; it answers a question left open in Chanin et al. 2025, "Feature
    Hedging", arXiv:2505.11756, section 5 and appendix A.11.
    """

    name = "shared_matryoshka"
    per_member = ("coefficient", "initial")

    def __init__(
        self,
        terms: Sequence[Term],
        *,
        levels: Sequence[int],
        members: int,
        width: int,
        initial: PerMember = 0.5,
        gain: float = 0.01,
        window: int = 100,
        lowest: float = -2.0,
        highest: float = 1.0,
    ):
        super().__init__()
        levels = tuple(levels)
        if len(levels) < 2 or levels[0] < 1 or any(a >= b for a, b in pairwise(levels)):
            raise ConfigError(
                f"levels must be two or more rising widths such as (32, 128), got {levels}."
            )
        if levels[-1] != width:
            raise ConfigError(
                f"the last level must be the SAE's width {width}, got levels {levels}."
            )
        if not (gain > 0 and math.isfinite(gain)) or window < 1:
            raise ConfigError(f"gain and window must be positive, got {gain} and {window}.")
        starts = [initial] if isinstance(initial, int | float) else [*initial]
        if not lowest < highest or not all(lowest <= each <= highest for each in starts):
            raise ConfigError(
                f"initial shares must lie from lowest to highest, got {initial} for {lowest} to "
                f"{highest}."
            )
        if len(starts) not in (1, members):
            raise ConfigError(
                f"give one initial share, or one for each of {members} members, got {len(starts)}."
            )
        if not terms:
            raise ConfigError("a matryoshka loss needs at least one inner term, got none.")
        self.terms = nn.ModuleList(terms)
        self.levels = levels
        self.gain, self.window, self.lowest, self.highest = gain, window, lowest, highest
        inner = levels[-2]
        self.register_buffer("initial", torch.tensor(starts, dtype=torch.float64))
        self.initial: Float[Tensor, " member_or_one"]
        share = self.initial.view(-1, 1, 1).repeat(members // len(starts), inner, width)
        self.register_buffer("share", share)
        self.share: Float[Tensor, "member inner latent"]
        # running sums: z_i and count of i, where j fires and where it does not
        self.register_buffer("seen", torch.zeros(4, members, inner, width, dtype=torch.float64))
        self.seen: Float[Tensor, "4 member inner latent"]

    def value(self, forward: Forward, progress: Progress) -> Float[Tensor, " member"]:
        """The sum over levels; shares move a step first."""
        z = forward.z
        if z.shape[::2] != self.share.shape[::2]:
            raise ConfigError(
                f"this loss was made for {list(self.share.shape[::2])} members and latents but "
                f"finds {list(z.shape[::2])}; give it the SAE's."
            )
        fires = (z.detach() > 0).to(z.dtype)
        self._control(forward, z.detach(), fires)
        share = self.share.to(z.dtype)
        bias = forward.sae.b_dec.unsqueeze(1)
        total = torch.zeros((), dtype=z.dtype, device=z.device)
        prefix: Tensor | None = None
        parts = forward.contributions(self.levels)
        for end, part in zip(self.levels, parts, strict=True):
            prefix = part if prefix is None else prefix + part
            x_hat = prefix + bias
            if end < self.levels[-1]:
                inside = fires[:, :, :end]
                count = inside.sum(-1, keepdim=True)
                mean = inside @ share[:, :end, end:] / count.clamp_min(1)
                mean = torch.where(count > 0, mean, 1.0)
                x_hat = x_hat + (mean * z[:, :, end:].detach()) @ forward.decoder[:, end:].detach()
            level = Level(forward, 0, end, x_hat)
            total = total + torch.stack([term(level, progress) for term in self.terms]).sum(0)
        assert prefix is not None
        forward.__dict__["x_hat"] = prefix + bias  # other terms need not decode again
        return total

    @torch.no_grad()
    def _control(self, forward: Forward, z: Tensor, fires: Tensor) -> None:
        inner = self.share.shape[1]
        weight = forward.weight
        scale = torch.full_like(z[:, :, :1], 1 / z.shape[1])
        if weight is not None:
            scale = weight.expand(z.shape[0], -1).unsqueeze(-1)
        strength, count = z[:, :, :inner] * scale, fires[:, :, :inner] * scale
        silent = 1 - fires
        now = torch.stack(
            [strength.mT @ fires, count.mT @ fires, strength.mT @ silent, count.mT @ silent]
        )
        self.seen.lerp_(now.to(self.seen.dtype), 1 / self.window)
        z_with, with_j, z_without, without_j = self.seen
        least = torch.finfo(self.seen.dtype).tiny
        known = (with_j > least) & (without_j > least)
        difference = z_with / with_j.clamp_min(least) - z_without / without_j.clamp_min(least)
        mean = (z_with + z_without) / (with_j + without_j).clamp_min(least)
        step = self.gain * difference / mean.clamp_min(least)
        self.share.add_(torch.where(known, step, 0.0)).clamp_(self.lowest, self.highest)
