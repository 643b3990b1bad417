r"""The hedging degree: how much of a feature an SAE had spread over its latents before it got one.

An SAE is extended by $N$ new latents and trained on, beside a *control* that is trained on without
them. If latents had hedged a feature, and a new latent now takes it over, the old latents lose that
component: their change $\delta$ lies in the span of the new ones. That is what is measured, less
what a subspace of random directions would catch.

**Reference:** Chanin et al. 2025, "Feature Hedging", arXiv:2505.11756, section 4, equations 5 to 7.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from latent_assay.errors import ConfigError, ShapeError
from latent_assay.metrics.directions import row_chunks, unit_rows
from latent_assay.metrics.samples import readable

# Random rows that are multiplied with every change at once; more of them save passes over the
# decoder, which is large, but the product has as many columns.
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class HedgingDegree:
    """The parts of the metric and its two published forms, for each member and each latent.

    Per latent there is NaN where a row is padding. The form of the authors' code bends at 0, so its
    mean over latents (`rescaled_by_latent.nanmean(-1)`) is larger than `rescaled`, which like
    theirs is formed from the means.
    """

    projection_by_latent: Float64[Tensor, "member latent"]
    r"""$\|Q Q^\top \delta_i\|$: how far each old latent moved within the span of the new ones."""
    baseline_by_latent: Float64[Tensor, "member latent"]
    """The same for random subspaces of the same dimension, averaged over them."""

    @property
    def projection(self) -> Float64[Tensor, " member"]:
        r"""$a$: the mean over latents of $\|Q Q^\top \delta_i\|$."""
        return self.projection_by_latent.nanmean(-1)

    @property
    def baseline(self) -> Float64[Tensor, " member"]:
        """$b$: the same for random subspaces."""
        return self.baseline_by_latent.nanmean(-1)

    @property
    def difference(self) -> Float64[Tensor, " member"]:
        """The form of the paper, $a - b$. May be negative."""
        return self.projection - self.baseline

    @property
    def rescaled(self) -> Float64[Tensor, " member"]:
        r"""The form of the authors' code: $\max(0, (a - b) / (1 - b))$; NaN where $b \ge 1$.

        It would be the share of what could be caught if changes had length one; they have any
        length from 0 to 2.
        """
        return _rescaled(self.projection, self.baseline)

    @property
    def difference_by_latent(self) -> Float64[Tensor, "member latent"]:
        """The form of the paper for each latent; its mean over latents is `difference`."""
        return self.projection_by_latent - self.baseline_by_latent

    @property
    def rescaled_by_latent(self) -> Float64[Tensor, "member latent"]:
        """The form of the authors' code for each latent."""
        return _rescaled(self.projection_by_latent, self.baseline_by_latent)


def hedging_degree(
    control: Float[Tensor, "member latent d_in"],
    extended: Float[Tensor, "member latent_and_new d_in"],
    generator: torch.Generator,
    *,
    widths: Sequence[int] | None = None,
    extended_widths: Sequence[int] | None = None,
    baselines: int = 50,
) -> HedgingDegree:
    r"""How far latents moved into the span of latents that were added.

    With all rows at length one, $\delta_i = d^1_i - d^0_i$ over the $L$ latents that both have,

    $$a = \frac1L \sum_i \| Q Q^\top \delta_i \|, \qquad
      b = \mathrm{mean}_r \frac1L \sum_i \| R_r R_r^\top \delta_i \|$$

    where the columns of $Q$ are an orthonormal basis of the span of the $N$ new rows, and those of
    $R_r$ one of as many random directions. The published equations 5 and 6 disagree on whether
    latents are rows or columns; here they are rows. New rows that depend on one another are counted
    once; rows of zeros span nothing.

    How to read it: a random subspace catches about $\|\delta\| \sqrt{N/d_{in}}$, so with many new
    latents little is left to be found. And it is not all chance that differs from 0: activations
    fill some directions more than others, and there both training noise and new latents lie.
    Compare with `change_in_span` of two continuations that were *not* extended.

    **Arguments:**
    - `control`: decoder rows of the SAE that was trained on as it was.
    - `extended`: decoder rows of the extended SAE; in each member the new ones follow its old ones.
    - `generator`: source of the random subspaces. All members meet the same, so that a member's
      degree does not depend on its company.
    - `widths`, `extended_widths`: of each member, where members are padded.
    - `baselines`: how many random subspaces.

    **Raises:** `ShapeError` unless every member of `extended` has more latents than its control,
    in the same d_in; `ConfigError` for no baseline at all, or for as many new latents as d_in.

    >>> before, after = torch.tensor([[[1.0, 1.0, 0.0]]]), torch.eye(3)[None, :2]
    >>> round(hedging_degree(before, after, torch.Generator()).projection.item(), 4)
    0.7071
    """
    members, width, d_in = control.shape
    own = [width] * members if widths is None else list(widths)
    longer = [extended.shape[1]] * members if extended_widths is None else list(extended_widths)
    if (
        (extended.shape[0], extended.shape[2]) != (members, d_in)
        or not len(own) == len(longer) == members
        or not all(0 < less < more for less, more in zip(own, longer, strict=True))
        or max(own) > width
        or max(longer) > extended.shape[1]
    ):
        raise ShapeError(
            f"the extended decoder must have the {_listed(own)} latents of the control and new "
            f"ones behind them, in the same members and d_in, got {list(extended.shape)} with "
            f"widths {_listed(longer)} beside {list(control.shape)}."
        )
    counts = [more - less for less, more in zip(own, longer, strict=True)]
    new = extended.new_zeros(members, max(counts), d_in)
    for member, (less, more) in enumerate(zip(own, longer, strict=True)):
        new[member, : more - less] = extended[member, less:more].detach()
    return change_in_span(
        control,
        extended[:, :width],
        new,
        generator,
        widths=own,
        counts=counts,
        baselines=baselines,
    )


@torch.no_grad()
def change_in_span(
    before: Float[Tensor, "member latent d_in"],
    after: Float[Tensor, "member latent d_in"],
    new: Float[Tensor, "member new d_in"],
    generator: torch.Generator,
    *,
    widths: Sequence[int] | None = None,
    counts: Sequence[int] | None = None,
    baselines: int = 50,
) -> HedgingDegree:
    r"""The formula of `hedging_degree` for any change and any span.

    With `before` and `after` from two continuations of one SAE on independent batches, neither of
    them extended, and `new` from a third that was, it says what the formula gives where nothing was
    handed over: its null.

    **Arguments:**
    - `before`, `after`: decoder rows of the same latents.
    - `new`: the rows whose span counts.
    - `generator`, `baselines`: as in `hedging_degree`.
    - `widths`, `counts`: latents and new rows of each member, where members are padded.

    **Raises:** `ShapeError` if shapes do not fit; `ConfigError` for no baseline, or for as many new
    rows as d_in, whose span holds everything; `DataError` for rows that are not finite.
    """
    members, width, d_in = before.shape
    own = [width] * members if widths is None else list(widths)
    added = [new.shape[1]] * members if counts is None else list(counts)
    if (
        before.shape != after.shape
        or (new.shape[0], new.shape[2]) != (members, d_in)
        or not len(own) == len(added) == members
        or not all(0 < each <= width for each in own)
        or not all(0 < each <= new.shape[1] for each in added)
    ):
        raise ShapeError(
            f"changes need rows of one shape before and after, and new rows in the same members "
            f"and d_in, got {list(before.shape)}, {list(after.shape)} and {list(new.shape)} with "
            f"{_listed(own)} latents and {_listed(added)} new ones."
        )
    if baselines < 1:
        raise ConfigError(f"`baselines` must be at least 1, got {baselines}.")
    if max(added) >= d_in:
        raise ConfigError(
            f"{max(added)} new latents span all {d_in} dimensions, so every change lies within "
            "their span and nothing can be told; add fewer than d_in."
        )
    projection = torch.full((members, width), torch.nan, dtype=torch.float64)
    baseline = projection.clone()
    state = generator.get_state()
    for m, (latents, n) in enumerate(zip(own, added, strict=True)):
        generator.set_state(state)
        rows = (readable(before[m, :latents]), readable(after[m, :latents]))
        basis = _basis(unit_rows(new[m, :n], "new"))
        projection[m, :latents] = next(_lengths(*rows, [basis])).cpu()
        chance = torch.zeros(latents, dtype=torch.float64)
        for lengths in _lengths(*rows, _random(len(basis), d_in, generator, baselines)):
            chance += lengths.cpu()
        baseline[m, :latents] = chance / baselines
    return HedgingDegree(projection_by_latent=projection, baseline_by_latent=baseline)


def _rescaled(projection: Tensor, baseline: Tensor) -> Tensor:
    room = torch.where(baseline < 1, 1 - baseline, torch.nan)
    return ((projection - baseline) / room).clamp_min(0)


def _basis(rows: Float64[Tensor, "new d_in"]) -> Float64[Tensor, "rank d_in"]:
    """Orthonormal rows with the same span."""
    _, strength, basis = torch.linalg.svd(rows, full_matrices=False)
    # rows that are parallel but for the rounding of float32 are one direction
    return basis[strength > 1e-6 * strength.amax().clamp_min(1e-300)]


def _random(
    dimension: int, d_in: int, generator: torch.Generator, count: int
) -> Iterator[Float64[Tensor, "dimension d_in"]]:
    """Orthonormal bases of random subspaces."""
    for _ in range(count):
        drawn = torch.randn(
            d_in, dimension, generator=generator, dtype=torch.float64, device=generator.device
        )
        yield torch.linalg.qr(drawn).Q.mT


def _lengths(
    before: Float[Tensor, "latent d_in"],
    after: Float[Tensor, "latent d_in"],
    bases: Iterable[Tensor],
) -> Iterator[Float64[Tensor, " latent"]]:
    """For each basis, the length of the part of each change that lies in its span.

    Bases are taken together up to a number of rows, and latents apart, so that one pass over the
    decoder serves many bases and no more than a part of the products is held.
    """
    waiting: list[Tensor] = []
    for basis in bases:
        if waiting and sum(map(len, waiting)) + len(basis) > _ROWS_AT_ONCE:
            yield from _together(before, after, waiting)
            waiting = []
        waiting.append(basis.to(before.device))
    if waiting:
        yield from _together(before, after, waiting)


def _together(before: Tensor, after: Tensor, bases: list[Tensor]) -> Tensor:
    rows = torch.cat(bases)
    found = rows.new_zeros(len(bases), len(before))
    for chunk in row_chunks(len(before), max(len(rows), before.shape[1])):
        change = unit_rows(after[chunk], "after") - unit_rows(before[chunk], "before")
        parts = (change @ rows.mT).square()
        found[:, chunk] = (
            parts.view(len(change), len(bases), len(rows) // len(bases)).sum(-1).sqrt().mT
        )
    return found


def _listed(counts: Sequence[int]) -> str:
    return str(counts[0]) if len(set(counts)) == 1 else str(list(counts))
