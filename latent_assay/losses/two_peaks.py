"""A latent should be silent or fire with one strength: a mixture model of activation peaks."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latent_assay.errors import ConfigError
from latent_assay.losses.forward import Forward, Progress
from latent_assay.losses.term import Ramp, Term
from latent_assay.sparsifiers import PerMember


class TwoPeaks(Term):
    r"""Draws the pre-activations of each latent together into two peaks, off and on.

    A latent that stands for one feature has two pre-activations, one when the feature is silent and
    one when it fires. A latent that mixes features has more. To the pre-activations $a_{bj}$ of
    each latent a mixture of two Gaussians of equal variance is fitted, each sample belonging to the
    likelier one. The penalty is the part of the variance that the mixture leaves unexplained,

    $$\frac{V}{K} \sum_{j=1}^{K} \frac{\mathrm{Var}(a_j \mid \text{peak})}{\mathrm{Var}(a_j)},
      \qquad V = \mathbb E \|x - \mathbb E x\|^2$$

    in which peaks and $V$ are constants for the gradient. It is 0 if and only if every latent has
    no more than two pre-activations, and follows neither the length of a row nor the biases.

    There is no threshold to choose: the likeliest mixture of this kind is the cut between off and
    on with the largest variance *between* its sides, and is found exactly, by sorting. If a weak
    peak lies below the cut, the latent learns to be silent there (the cure of the source). If
    two peaks lie above, it learns to fire equally in both (the inverse cure).

    **Arguments:**
    - `coefficient`: with $V$ in the formula a number that means the same at any scale of $x$.

    **Reference:** proposed here; it answers a question left open in Chanin et al. 2025, "Broken
    Latents".
    """

    name = "two_peaks"
    divisible = True

    def __init__(self, coefficient: PerMember = 10.0, *, ramp: Ramp | None = None):
        super().__init__(coefficient, ramp)

    def value(self, forward: Forward, progress: Progress) -> Float[Tensor, " member"]:
        """The penalty; padding counts neither as a latent nor as a peak."""
        sae = forward.sae
        if forward.decoder.shape[1] != sae.width:
            raise ConfigError(
                "TwoPeaks looks at all latents; it belongs beside a matryoshka loss, not into one."
            )
        if self.ramp.now(progress) == 0:
            return torch.zeros_like(forward.x_hat[:, 0, 0])
        # not `forward.pre`, which on the sparse path has no gradient
        a = sae.pre_activations(forward.x)
        weight = _weights(forward, a)
        on = on_peak(a.detach(), weight).to(a.dtype)
        w = weight.unsqueeze(-1)
        mean = (w * a).sum(1, keepdim=True)
        unexplained = torch.zeros_like(a[:, 0])
        for peak in (on, 1 - on):
            mass = (w * peak).sum(1, keepdim=True)
            centre = (w * peak * a).sum(1, keepdim=True) / mass.clamp_min(1e-30)
            unexplained = unexplained + (w * peak * (a - centre).square()).sum(1)
        variance = (w * (a - mean).square()).sum(1)
        flat = variance <= 1e-12 * (w * a.square()).sum(1).detach()
        ratio = torch.where(flat, 0.0, unexplained / torch.where(flat, 1.0, variance))
        x = forward.x.expand(sae.members, -1, -1)
        spread = (w * (x - (w * x).sum(1, keepdim=True)).square()).sum((1, 2))
        widths = forward.whole(torch.tensor(sae.widths, dtype=a.dtype, device=a.device))
        return spread * forward.whole(ratio.sum(-1)) / widths


def on_peak(
    a: Float[Tensor, "member batch latent"], weight: Float[Tensor, "member batch"]
) -> Bool[Tensor, "member batch latent"]:
    r"""The samples in the upper of the two likeliest peaks, for each latent.

    With $\pi$ the part of the samples above a cut and $\mu_\pm$ the means on its sides, the cut
    maximises the variance between, $\pi (1 - \pi) (\mu_+ - \mu_-)^2$. Equal values are on one
    side; values that are all equal are below.

    **Arguments:**
    - `a`: values.
    - `weight`: weights of the samples, summing to 1 for every member.

    >>> values = torch.tensor([0.0, 0.1, 5.0, 6.0]).view(1, 4, 1)
    >>> on_peak(values, torch.full((1, 4), 0.25)).flatten().tolist()
    [False, False, True, True]
    """
    a = a.mT.contiguous()  # sorting is faster along the last axis
    value, order = a.sort(dim=-1)
    w = weight.unsqueeze(1).expand_as(a).gather(-1, order).double()
    centred = value.double() - (w * value).sum(-1, keepdim=True)
    below, moment = w.cumsum(-1)[..., :-1], (w * centred).cumsum(-1)[..., :-1]
    room = below * (1 - below)
    between = moment.square() / room.clamp_min(1e-12)
    gap = value.diff(dim=-1) > 1e-6 * (value[..., -1:] - value[..., :1])
    cut = between.masked_fill(~gap | (room < 1e-12), -1.0).argmax(dim=-1, keepdim=True)
    on = (a > value.gather(-1, cut)) & gap.any(dim=-1, keepdim=True)
    return on.mT


def _weights(forward: Forward, like: Tensor) -> Float[Tensor, "member batch"]:
    if forward.weight is None:
        return torch.full_like(like[:, :, 0], 1 / like.shape[1])
    return forward.weight.expand(like.shape[0], -1)
