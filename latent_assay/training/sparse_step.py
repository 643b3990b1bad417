"""Steps of large SAEs that fire few latents, without automatic differentiation."""

from torch import Tensor

from latent_assay.kernels import SparseLatents, Workspace, sparse_gradients, uses_triton
from latent_assay.losses import AuxK, Forward, Matryoshka, Objective, Progress, Ramp, SquaredError
from latent_assay.sae import SAE


class SparseStep:
    """Fills in the gradients of an SAE whose objective is plain or nested squared error; see `of`.

    **Arguments:**
    - `sae`: the SAE.
    - `error`: its squared error.
    - `nested`: the matryoshka term around it, if any.
    - `rescue`: its AuxK, if any.
    """

    def __init__(
        self, sae: SAE, error: SquaredError, nested: Matryoshka | None, rescue: AuxK | None
    ) -> None:
        self.sae = sae
        self.rescue = rescue
        self.trained = {name: p for name, p in sae.named_parameters() if p.requires_grad}
        self.bounds = (sae.width,) if nested is None else nested.levels
        self.detached = nested is not None and nested.detached
        coefficient = error.coefficient.view(-1, 1)
        if nested is not None:
            coefficient = coefficient * nested.coefficient.view(-1, 1) * nested.beta
        shape = (sae.members, len(self.bounds))
        self.error = coefficient.to(sae.W_enc).expand(shape)
        self.memory = (Workspace(), Workspace())

    @classmethod
    def of(cls, sae: SAE, objective: Objective, *, autocast: bool) -> "SparseStep | None":
        """The sparse step of an SAE and objective; None if they need automatic differentiation.

        They do not if latents are pre-activations behind a gate that selects few (TopK, BatchTopK)
        and the objective is one squared error, plain or matryoshka, and at most one AuxK.
        """
        gate = sae.sparsifier
        if autocast or not gate.is_gate or gate.expected_l0 is None or uses_triton(sae.W_enc):
            return None
        terms = list(objective.terms)
        rescues = [term for term in terms if type(term) is AuxK]
        others = [term for term in terms if type(term) is not AuxK]
        if len(rescues) > 1 or len(others) != 1:
            return None
        nested = others[0] if type(others[0]) is Matryoshka else None
        inner = [others[0]] if nested is None else list(nested.terms)
        if len(inner) != 1 or type(inner[0]) is not SquaredError or inner[0].gamma is not None:
            return None
        if any(term.ramp != Ramp() for term in (*others, *inner)):
            return None
        if nested is not None and nested.levels[-1] != sae.width:
            return None
        return cls(sae, inner[0], nested, rescues[0] if rescues else None)

    def step(self, x: Tensor, weight: Tensor | None, progress: Progress) -> Forward | None:
        """Set the gradient of every parameter for a batch.

        **Arguments:** as of `Forward`.

        **Returns:** the batch's way through the SAE, without gradients; None, and no gradients, if
        dense products are faster at this size.
        """
        sae = self.sae
        if not sae.prefers_sparse(x):
            return None
        pre, selection = sae.selected(x, weight)
        if selection is None:
            return None
        value = selection.gather(pre).clamp_min(0)
        rescue = None if self.rescue is None else self.rescue.rescue(sae, progress)
        found = sparse_gradients(
            x,
            weight,
            W_enc=sae.W_enc,
            W_dec=sae.W_dec,
            b_dec=sae.b_dec,
            subtract_b_dec=sae.subtract_b_dec,
            pre=pre,
            selection=selection,
            value=value,
            bounds=self.bounds,
            error=self.error,
            detached=self.detached,
            rescue=rescue,
            memory=self.memory,
        )
        gradients = {"W_enc": found.W_enc, "b_enc": found.b_enc, "b_dec": found.b_dec}
        if sae.tied:
            gradients["W_enc"] = found.W_enc.add_(found.W_dec)
        else:
            gradients["W_dec"] = found.W_dec
        for name, gradient in gradients.items():
            if name in self.trained:
                self.trained[name].grad = gradient
        return Forward(sae, x, weight, encoded=(SparseLatents(selection, value), pre))
