"""Nested losses: prefixes of the latents must reconstruct on their own."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from latent_assay.errors import ConfigError
from latent_assay.losses.forward import Forward, Level, Progress
from latent_assay.losses.term import Term
from latent_assay.sparsifiers import PerMember


class Matryoshka(Term):
    r"""$\sum_m \beta_m \, T_m$: the given terms, for every prefix of the latents.

    $T_m$ is the sum of the inner terms for the SAE that consists of the first $m$ latents. All
    $\beta_m = 1$ is the matryoshka SAE; all but the last 0 is a plain SAE; in between, hedging in
    the early levels and absorption in the late ones are balanced.

    With `detached=True` a level sees the contribution of earlier latents as a constant, so that
    each latent is trained by its own level only (the limit of $\beta \to \infty$ for early levels),
    and sparsity is counted for the level's own latents. Biases are trained by all levels.

    Works with every sparsifier; what fires is decided once, over all latents.

    **Arguments:**
    - `terms`: the inner terms, for example `[SquaredError(), Lp(1e-3)]`.
    - `levels`: the widths of the prefixes, rising, ending with the SAE's width.
    - `beta`: $\beta_m$, one number for each level, or a row of them for each member.
    - `detached`: see above.

    **Reference:** Bussmann et al. 2025, arXiv:2503.17547; the coefficients $\beta_m$: Chanin et al.
    2025, "Feature Hedging", arXiv:2505.11756.
    """

    name = "matryoshka"
    per_member = ("coefficient", "beta")
    divisible = True

    def __init__(
        self,
        terms: Sequence[Term],
        *,
        levels: Sequence[int],
        beta: PerMember | Sequence[Sequence[int | float]] = 1.0,
        detached: bool = False,
    ):
        super().__init__()
        levels = tuple(levels)
        if not levels or levels[0] < 1 or any(a >= b for a, b in pairwise(levels)):
            raise ConfigError(f"levels must be rising widths such as (32, 128, 512), got {levels}.")
        try:
            rows = torch.as_tensor(beta, dtype=torch.float64)
        except (TypeError, ValueError):  # rows of different lengths
            rows = torch.empty(0)
        rows = rows.expand(len(levels)) if rows.dim() == 0 else rows
        rows = rows.unsqueeze(0) if rows.dim() == 1 else rows
        usable = bool(((rows >= 0) & rows.isfinite()).all())
        if rows.dim() != 2 or rows.shape[1] != len(levels) or not usable:
            raise ConfigError(
                f"beta must hold {len(levels)} numbers, none negative (one for each level, or such "
                f"a row for each member), got {beta}."
            )
        if not terms:
            raise ConfigError("a matryoshka loss needs at least one inner term, got none.")
        self.terms = nn.ModuleList(terms)
        self.levels = levels
        self.detached = detached
        self.register_buffer("beta", rows.clone())
        self.beta: Float[Tensor, "member_or_one level"]

    @property
    def bounds(self) -> tuple[int, ...]:
        """The levels."""
        return self.levels

    def narrow(self, rows: Int[Tensor, " row"]) -> None:
        """Keep some latents only; a level then ends where its last remaining latent stands."""
        super().narrow(rows)
        self.levels = tuple(int((rows < level).sum()) for level in self.levels)

    def value(self, forward: Forward, progress: Progress) -> Float[Tensor, " member"]:
        """The sum over levels."""
        width = forward.sae.width
        if self.levels[-1] != width:
            raise ConfigError(
                f"the last level must be the SAE's width {width}, got levels {self.levels}."
            )
        total = torch.zeros((), dtype=forward.x.dtype, device=forward.x.device)
        start = 0
        inner: Tensor | None = None
        bias = forward.bias
        parts = forward.contributions(self.levels)
        for place, (end, part) in enumerate(zip(self.levels, parts, strict=True)):
            before = inner
            inner = part if before is None else before + part
            if self.detached:
                x_hat = (part if before is None else before.detach() + part) + bias
                level = Level(forward, start, end, x_hat)
            else:
                level = Level(forward, 0, end, inner + bias)
            terms = torch.stack([term(level, progress) for term in self.terms]).sum(0)
            total = total + self.beta[:, place].to(total.dtype) * terms
            start = end
        assert inner is not None
        forward.__dict__["x_hat"] = inner + bias  # other terms need not decode again
        return total
