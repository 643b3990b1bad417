r"""In how many groups the activations of each latent come.

Mixtures of one, two and three normal distributions are fitted to each latent's activations by
expectation maximisation, and a log-normal and a uniform one, which a single group may follow that
is skewed or flat. A number of groups counts only if the Bayesian information criterion prefers it
to every smaller one and the mixture's density has real valleys between its peaks: long tails are
skewed, not several.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

MOST = 3
_STEPS = 40
_CHUNK = 2048
_GRID = 96
_VALLEY = 0.25
_LEAST_WEIGHT = 0.02


@dataclass(frozen=True, kw_only=True, eq=False)
class Peaks:
    """One row per latent; activations relative to the latent's median."""

    number: Int[Tensor, " latent"]
    """How many groups; 0 if the latent fired too seldom to say."""
    gain: Float[Tensor, " latent"]
    """How much better the best mixture of several is than one group: difference of the criterion
    per activation, in nats; negative if one group is better."""
    valley: Float[Tensor, " latent"]
    """Depth of the valley between the two largest groups of that mixture: 1 less the density in it
    over that of the lower peak; 0 if there is none."""
    minor: Float[Tensor, " latent"]
    """Weight of its second largest group."""
    weight: Float[Tensor, "latent group"]
    """Weights of the groups that were chosen; 0 beyond their number."""
    mean: Float[Tensor, "latent group"]
    """Their means, in units of x."""
    sd: Float[Tensor, "latent group"]
    """Their standard deviations, in units of x."""


@torch.no_grad()
def peaks(values: Float[Tensor, "latent value"], fewest: int = 30) -> Peaks:
    """Groups in the activations of each latent.

    **Arguments:**
    - `values`: activations; NaN where there are fewer.
    - `fewest`: activations below which nothing is said.
    """
    parts = [_peaks(chunk, fewest) for chunk in values.abs().split(_CHUNK)]
    return Peaks(
        **{
            name: torch.cat([getattr(part, name) for part in parts])
            for name in ("number", "gain", "valley", "minor", "weight", "mean", "sd")
        }
    )


def _peaks(values: Float[Tensor, "latent value"], fewest: int) -> Peaks:
    real = values.isfinite()
    n = real.sum(-1)
    unit = values.nanmedian(-1).values.nan_to_num(1.0).clamp_min(1e-30).unsqueeze(-1)
    x = torch.where(real, values / unit, 0.0)
    w = real.float()
    count = n.clamp_min(1).float()

    fits = [_mixture(x, w, groups) for groups in range(1, MOST + 1)]
    criteria = [
        -2 * fit[0] + (3 * groups - 1) * count.log() for groups, fit in enumerate(fits, start=1)
    ]
    logs = torch.where(real, x.clamp_min(1e-6).log(), 0.0)
    centre = logs.sum(-1) / count
    spread = ((logs - centre.unsqueeze(-1)).square() * w).sum(-1) / count
    skewed = -(logs.sum(-1)) - 0.5 * count * (2 * torch.pi * torch.e * spread.clamp_min(1e-8)).log()
    span = torch.where(real, x, -torch.inf).amax(-1) - torch.where(real, x, torch.inf).amin(-1)
    flat = 2 * count * span.nan_to_num(1.0, 1.0, 1.0).clamp_min(1e-6).log()
    single = torch.minimum(criteria[0], torch.minimum(-2 * skewed, flat) + 2 * count.log())

    several = torch.stack(criteria[1:], -1)
    best, which = several.min(-1)
    pick = which.view(-1, 1, 1)

    def chosen(position: int) -> Tensor:
        padded = [
            torch.nn.functional.pad(fit[position], [0, MOST - fit[position].shape[-1]])
            for fit in fits[1:]
        ]
        return torch.stack(padded, 1).gather(1, pick.expand(-1, 1, MOST)).squeeze(1)

    weight, mean, sd = chosen(1), chosen(2), chosen(3)
    valley = _valley(weight, mean, sd)
    minor = weight.sort(-1, descending=True).values[:, 1]
    enough = n >= fewest
    gain = torch.where(enough, (single - best) / (2 * count), torch.nan)
    is_several = enough & (gain > 0) & (valley > _VALLEY) & (minor > _LEAST_WEIGHT)
    number = torch.where(is_several, which + 2, enough.to(torch.int64))
    one = [torch.nn.functional.pad(fits[0][i], [0, MOST - 1]) for i in (1, 2, 3)]
    weight, mean, sd = (
        torch.where(is_several.unsqueeze(-1), many, alone)
        for many, alone in zip((weight, mean, sd), one, strict=True)
    )
    return Peaks(
        number=number,
        gain=gain,
        valley=torch.where(enough, valley, torch.nan),
        minor=torch.where(enough, minor, torch.nan),
        weight=weight,
        mean=mean * unit,
        sd=sd * unit,
    )


def _mixture(
    x: Float[Tensor, "latent value"], w: Float[Tensor, "latent value"], groups: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-likelihood, weights, means and sds; groups begin at quantiles."""
    count = w.sum(-1, keepdim=True).clamp_min(1)
    ordered = torch.where(w > 0, x, torch.inf).sort(-1).values
    place = (torch.arange(groups) + 0.5) / groups
    index = (place * (count - 1)).round().long().clamp_min(0)
    mean = ordered.gather(-1, index).nan_to_num(posinf=1.0)
    average = (x * w).sum(-1, keepdim=True) / count
    var = ((x - average).square() * w).sum(-1, keepdim=True) / count
    # a group may be narrow, but not so narrow that a single value makes it infinitely likely
    floor = (0.02 * average.abs().clamp_min(1e-6)).square() + 1e-4 * var
    var = (var / groups**2).clamp_min(floor).expand(-1, groups)
    weight = torch.full_like(mean, 1 / groups)
    for _ in range(1 if groups == 1 else _STEPS):
        logs = _logs(x, weight, mean, var)
        # softmax over so few groups is much slower than its parts
        part = logs.sub_(logs.amax(1, keepdim=True)).exp_()
        part.mul_((w / part.sum(1)).unsqueeze(1))
        mass = part.sum(-1).clamp_min(1e-6)
        weight = mass / mass.sum(-1, keepdim=True)
        mean = torch.bmm(part, x.unsqueeze(-1)).squeeze(-1) / mass
        squares = torch.bmm(part, x.square().unsqueeze(-1)).squeeze(-1) / mass
        var = (squares - mean.square()).clamp_min(floor)
    likelihood = (_logs(x, weight, mean, var).logsumexp(1) * w).sum(-1)
    order = mean.argsort(-1)
    return (
        likelihood,
        weight.gather(-1, order),
        mean.gather(-1, order),
        var.sqrt().gather(-1, order),
    )


def _logs(x: Tensor, weight: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """Logarithm of each group's part of the density: [latent, group, value]."""
    constant = weight.clamp_min(1e-12).log() - 0.5 * (2 * torch.pi * var).log()
    apart = (x.unsqueeze(1) - mean.unsqueeze(-1)).square_()
    return apart.mul_((-0.5 / var).unsqueeze(-1)).add_(constant.unsqueeze(-1))


def _valley(
    weight: Float[Tensor, "latent group"],
    mean: Float[Tensor, "latent group"],
    sd: Float[Tensor, "latent group"],
) -> Float[Tensor, " latent"]:
    """Depth of the deepest valley between two groups that both weigh enough."""
    deepest = torch.zeros(len(weight))
    step = torch.linspace(0, 1, _GRID)
    for a in range(weight.shape[1]):
        for b in range(a + 1, weight.shape[1]):
            low, high = mean[:, a : a + 1], mean[:, b : b + 1]
            grid = low + step * (high - low)
            scaled = (grid.unsqueeze(-1) - mean.unsqueeze(1)) / sd.clamp_min(1e-12).unsqueeze(1)
            share = weight / sd.clamp_min(1e-12)
            density = (share.unsqueeze(1) * (-0.5 * scaled.square()).exp()).sum(-1)
            ends = torch.minimum(density[:, 0], density[:, -1]).clamp_min(1e-30)
            depth = 1 - density.min(-1).values / ends
            real = torch.minimum(weight[:, a], weight[:, b]) > _LEAST_WEIGHT
            deepest = torch.where(real, torch.maximum(deepest, depth), deepest)
    return deepest
