"""Steps of plain objectives without automatic differentiation.

An ensemble of small SAEs spends most of a step on the bookkeeping of autograd. Squared error, with
an L1 penalty or none, has gradients that fit on a page (`kernels.gram`); this decides when they
apply and puts them where autograd would.
"""

from typing import Any

from torch import Tensor

from latent_assay.kernels import gram_gradients, prefers_gram
from latent_assay.losses import AuxK, Forward, Lp, Objective, Progress, Ramp, SquaredError
from latent_assay.sae import SAE, DenseLatents


class GramStep:
    """Fills in the gradients of an SAE whose objective is plain; see `of`.

    **Arguments:**
    - `sae`: the SAE.
    - `error`: its squared error.
    - `penalty`: its L1 penalty, if any.
    - `rescue`: its AuxK, if any.
    """

    def __init__(
        self, sae: SAE, error: SquaredError, penalty: Lp | None, rescue: AuxK | None
    ) -> None:
        self.sae = sae
        self.penalty = penalty
        self.rescue = rescue
        self.trained = {name: p for name, p in sae.named_parameters() if p.requires_grad}
        dtype = sae.W_enc.dtype
        self.error = error.coefficient.to(dtype).expand(sae.members)
        self.l1 = None if penalty is None else penalty.coefficient.to(dtype).expand(sae.members)

    @classmethod
    def of(cls, sae: SAE, objective: Objective, *, autocast: bool) -> "GramStep | None":
        """The direct step of an SAE and objective; None if they need automatic differentiation.

        They do not if latents are pre-activations behind a gate (ReLU, TopK, BatchTopK) and the
        objective consists of one plain squared error, at most one L1 penalty and at most one AuxK.
        """
        if autocast or not sae.sparsifier.is_gate:
            return None
        found: dict[type, Any] = {}
        for term in objective.terms:
            if type(term) not in (SquaredError, Lp, AuxK) or type(term) in found:
                return None
            found[type(term)] = term
        error, penalty, rescue = (found.get(kind) for kind in (SquaredError, Lp, AuxK))
        if error is None or error.gamma is not None or error.ramp != Ramp():
            return None
        if not bool((error.coefficient > 0).all()) or (penalty is not None and penalty.p != 1):
            return None
        return cls(sae, error, penalty, rescue)

    def step(self, x: Tensor, weight: Tensor | None, progress: Progress) -> Forward | None:
        """Set the gradient of every parameter for a batch.

        **Arguments:** as of `Forward`.

        **Returns:** the batch's way through the SAE, without gradients; None, and no gradients, if
        this step needs automatic differentiation: a large SAE, or one with dead latents to rescue.
        """
        sae = self.sae
        if not prefers_gram(
            members=sae.members, batch=x.shape[-2], width=sae.width, d_in=sae.d_in, like=x
        ):
            return None
        if self.rescue is not None and self.rescue.renew(sae, progress):
            return None
        l1 = self.l1
        if self.penalty is not None and l1 is not None:
            l1 = l1 * self.penalty.ramp.now(progress)
        found = gram_gradients(
            x,
            weight,
            W_enc=sae.W_enc,
            W_dec=sae.W_dec,
            b_enc=sae.b_enc,
            b_dec=sae.b_dec,
            subtract_b_dec=sae.subtract_b_dec,
            sparsify=lambda pre: sae.sparsifier(pre, weight),
            by_sample=sae.sparsifier.compares_samples,
            error=self.error,
            l1=l1,
            by_decoder_norm=self.penalty is not None and self.penalty.weight_by_decoder_norm,
        )
        gradients = {"W_enc": found.W_enc, "b_enc": found.b_enc, "b_dec": found.b_dec}
        if sae.tied:
            gradients["W_enc"] = found.W_enc + found.W_dec
        else:
            gradients["W_dec"] = found.W_dec
        for name, gradient in gradients.items():
            if name in self.trained:
                self.trained[name].grad = gradient
        latents = DenseLatents(found.z.mT, found.fired)
        return Forward(sae, x, weight, encoded=(latents, found.pre.mT))
