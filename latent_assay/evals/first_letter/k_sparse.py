"""Which latents stand for a concept, and how well the first k of them tell it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_assay.evals.first_letter.concepts import Concepts
from latent_assay.evals.first_letter.linear import L1_PROBE, LinearConfig, train_probe
from latent_assay.evals.probing.classifier import ClassifierConfig, fit_and_score
from latent_assay.evals.probing.ranking import unit

Choice = Literal["difference", "l1 probe"]
"""How latents are chosen for a concept."""

_REFIT = ClassifierConfig(balanced=True, max_iter=500)


@dataclass(frozen=True, kw_only=True, eq=False)
class KSparse:
    """Latents in the order in which they are taken for each concept, and what they reach."""

    order: Int[Tensor, "concept k"]
    """The latents that stand for it, the best first."""
    f1: Float[Tensor, "concept k"]
    """F1 on test samples of logistic regression on the first 1, 2, ... of them."""

    def main(self, jump: float = 0.03) -> list[list[int]]:
        """The main latents of each concept: as many as each raise F1 by more than `jump`.

        More than one is feature splitting: the concept needs several latents. There is always one,
        and the first k that does not raise F1 enough ends the count.

        **Arguments:**
        - `jump`: SAEBench's threshold.
        """
        chosen = []
        for order, f1 in zip(self.order.tolist(), self.f1.tolist(), strict=True):
            count, best = 0, float("-inf")
            for score in f1:
                if not score > best + jump:
                    break
                count, best = count + 1, score
            chosen.append(order[: max(1, count)])
        return chosen


def k_sparse(
    z: Float[Tensor, "sample latent"],
    data: Concepts,
    generator: torch.Generator,
    *,
    max_k: int = 10,
    choice: Choice = "difference",
    config: LinearConfig = L1_PROBE,
    ks: Sequence[int] | None = None,
) -> KSparse:
    """Choose latents for each concept, and refit logistic regression on the first k.

    `difference` takes those with the largest difference of class means in units of their standard
    deviation, which is the correlation with the concept; `l1 probe` those with the largest weight
    in an L1 probe on all latents, as published. The latter does not always rank a parent's own
    latent above those of its children, not even for a perfect SAE, because both have positive
    weights. Either way the sign counts: a latent that is silent where the concept is does not stand
    for it.

    **Arguments:**
    - `z`: latent activations.
    - `data`: labels, and the division into training and test samples.
    - `generator`: of the L1 probe and the refits.
    - `max_k`: the most latents.
    - `choice`: how latents are chosen.
    - `config`: of the L1 probe.
    - `ks`: which numbers of latents are refitted; None for all up to `max_k`. F1 is NaN elsewhere.

    **Reference:** the L1 probe and the refits are those of SAEBench's first-letter task
    ([Karvonen et al. 2025](https://arxiv.org/abs/2503.09532)), whose training order no seed fixes.
    """
    train = ~data.test
    max_k = min(max_k, z.shape[1])
    seen, unseen = z[train], z[data.test]
    if choice == "l1 probe":
        worth = train_probe(seen, data.labels[train], config, generator).weight
    else:
        scale = unit(seen, "standardised")
        worth = torch.stack(
            [(seen[has].mean(0) - seen[~has].mean(0)) / scale for has in data.labels[train].T]
        )
    order = worth.topk(max_k, dim=-1).indices
    f1 = torch.full((len(data.names), max_k), float("nan"))
    for concept in range(len(data.names)):
        labels = data.labels[:, concept]
        for k in range(1, max_k + 1) if ks is None else ks:
            if k > max_k:
                continue
            columns = order[concept, :k]
            scores = fit_and_score(
                seen[:, columns],
                labels[train],
                unseen[:, columns],
                labels[data.test],
                _REFIT,
                generator,
            )
            f1[concept, k - 1] = scores.f1
    return KSparse(order=order, f1=f1)
