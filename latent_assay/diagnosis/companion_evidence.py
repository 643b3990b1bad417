r"""Whether a latent and a companion stand for one feature together, which is neither's own.

Latents may rotate among themselves and leave no residual: $d_1 = f + a u$ and $d_2 = f - b u$ make
$f$ together, $f = (b\, d_1 + a\, d_2) / (a + b)$. Where $f$ is there without $u$ both fire, and in
constant proportion, as both follow the one magnitude of $f$. Two latents that stand for a feature
each, and merely fire together, follow two magnitudes, and their proportion varies as if one of them
were shuffled among the samples in which both fire.

So for each latent $l$ and the companions $j$ that fire most often with it, the angles
$\theta = \arctan(z_j / z_l)$ are counted, as they are and with $z_j$ shuffled. The excess in the
angle where it is greatest, times $P(j \mid l)$, is the share of $l$'s firings that the pair makes
together; what they make there is $\cos\theta\, \hat d_l + \sin\theta\, \hat d_j$, and how far that
is from both rows is how wrong the rows are.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_assay.diagnosis.firing_sketch import FiringSketch
from latent_assay.diagnosis.subject import Subject

COMPANIONS = 12
"""How many others are looked at for each latent: those that fire most often with it."""
_SAMPLES = 512
_ENTRIES = 2**23
_FEWEST = 40
_BINS = 80
_SHIFTS = 4
_SAME = 0.95
_BESIDE = 0.3
"""A direction whose tangent with the companion's row is less is the companion's own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Companions:
    """The companion with which each latent most makes a third direction; -1 if there is none."""

    index: Int[Tensor, " latent"]
    """Which latent it is."""
    strength: Float[Tensor, " latent"]
    """Share of the firings that the two make together, times how far that is from both rows."""
    off: Float[Tensor, " latent"]
    """Tangent of the angle of what they make with the latent's own row, at most 1."""
    share: Float[Tensor, " latent"]
    """Share of the latent's firings in which they make it, beyond what chance does."""


@torch.no_grad()
def companions(subject: Subject, sketch: FiringSketch) -> Companions:
    """The companion of every latent; NaN for those that fired too seldom.

    **Arguments:**
    - `subject`: whose latents.
    - `sketch`: whole samples of their firing.
    """
    width, most = subject.width, sketch.latent.shape[1]
    step = max(1, min(width, _ENTRIES // (_SAMPLES * max(most, COMPANIONS * 4) + width)))
    places = sketch.firings_of(_SAMPLES)
    parts = [
        _companions(slice(at, min(at + step, width)), subject, sketch, places)
        for at in range(0, width, step)
    ]
    index, strength, off, share = (torch.cat(each) for each in zip(*parts, strict=True))
    return Companions(index=index, strength=strength, off=off, share=share)


def _companions(
    part: slice,
    subject: Subject,
    sketch: FiringSketch,
    places: Int[Tensor, "latent sample"],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    width = subject.width
    own = torch.arange(part.start, part.stop)
    row = places[part]
    real = row >= 0
    index, value = sketch.latent[row.clamp_min(0)], sketch.value[row.clamp_min(0)]
    fires = (value != 0) & real.unsqueeze(-1)
    number = len(own)
    count = torch.zeros(number, width)
    count.scatter_add_(1, index.flatten(1), fires.flatten(1).float())
    n = real.sum(1)
    count[torch.arange(number), own] = 0
    several = min(COMPANIONS, width)
    joint, other = count.topk(several, dim=-1)
    # where in the list of companions each latent stands, and nowhere for most
    place = torch.full((number, width), several)
    place.scatter_(1, other, torch.arange(several).expand(number, -1))
    at = place.gather(1, index.flatten(1)).view_as(index)
    beside = torch.zeros(number, row.shape[1], several + 1)
    beside.scatter_add_(2, at, torch.where(fires, value, 0.0))
    beside = beside[..., :several].mT
    mine = torch.where((index == own.view(-1, 1, 1)) & fires, value, 0.0).sum(-1)
    mine = mine.unsqueeze(1).expand_as(beside)

    both = beside != 0
    order = both.to(torch.uint8).sort(dim=-1, descending=True, stable=True).indices
    k = both.sum(-1, keepdim=True)
    inside = torch.arange(row.shape[1]) < k
    z, c = mine.gather(-1, order), beside.gather(-1, order)
    found = _counts(z, c, inside)
    shuffled = torch.zeros_like(found)
    for shift in range(1, _SHIFTS + 1):
        turned = (torch.arange(row.shape[1]) + shift) % k.clamp_min(1)
        shuffled += _counts(z, c.gather(-1, turned), inside) / _SHIFTS
    excess = (found - shuffled) / k.clamp_min(1)
    best = (excess[..., 1:] + excess[..., :-1]).max(-1)
    # what a count of so many samples may be off by chance
    sure = (best.values - k.squeeze(-1).clamp_min(1).rsqrt()).clamp_min(0)
    angle = (best.indices + 0.5) * (torch.pi / _BINS) - torch.pi / 2
    rows = subject.decoder[other.flatten()].view(*other.shape, -1)
    cosine = torch.bmm(rows, subject.decoder[part].unsqueeze(-1)).squeeze(-1)
    one, two = angle.cos(), angle.sin()
    length = (1 + 2 * one * two * cosine).clamp_min(1e-6).sqrt()
    off = _tangent((one + two * cosine) / length)
    beside_other = _tangent((two + one * cosine) / length)
    share = sure * k.squeeze(-1) / n.clamp_min(1).unsqueeze(-1)
    strength = share * off * (beside_other / _BESIDE).clamp_max(1)
    real_pair = (joint >= _FEWEST) & (cosine.abs() < _SAME)
    strength = torch.where(real_pair, strength, 0.0)
    chosen = strength.argmax(-1, keepdim=True)

    def picked(x: Tensor) -> Tensor:
        return torch.where(n < _FEWEST, torch.nan, x.gather(-1, chosen).squeeze(-1))

    found_one = strength.amax(-1) > 0
    which = torch.where(found_one, other.gather(-1, chosen).squeeze(-1), -1)
    return (
        which,
        picked(strength),
        picked(torch.where(real_pair, off, 0.0)),
        picked(torch.where(real_pair, share, 0.0)),
    )


def _counts(z: Tensor, c: Tensor, inside: Tensor) -> Float[Tensor, "latent companion bin"]:
    """How many pairs of activations lie in which direction."""
    turn = torch.atan2(c, z.abs().clamp_min(1e-30))
    # equal activations lie in the middle of a bin: on an edge, rounding would part them
    place = ((turn / torch.pi + 0.5) * _BINS).round().to(torch.int64).clamp(0, _BINS)
    count = torch.zeros(*z.shape[:2], _BINS + 1)
    return count.scatter_add_(2, place, inside.to(count.dtype))


def _tangent(cosine: Tensor) -> Tensor:
    """Of an angle given by its cosine; 1 from an eighth of a turn on."""
    ratio = (1 - cosine.square()).clamp_min(0).sqrt() / cosine.clamp_min(1e-6)
    return ratio.clamp_max(1.0)
