r"""What removing a few latents does to linear probes: the common part of SCR and TPP.

A document is represented by the mean $\bar x$ of its tokens' activations. Zeroing the latents in
$A$ and keeping the SAE's error term turns each token's $x$ into $x - \sum_{j \in A} z_j d_j$, so
the document becomes

$$ \bar x' = \bar x - \sum_{j \in A} \bar z_j d_j, $$

exactly, for every SAE whose decoder is linear. Mean activations and mean latent activations are
therefore all that is needed, and a probe's logit falls by $\sum_{j \in A} \bar z_j\, (w d_j)$.
"""

from dataclasses import dataclass, field

from jaxtyping import Bool, Float, Int
from torch import Tensor

from latent_assay.errors import ConfigError, ShapeError
from latent_assay.evals.linear_probe import LinearProbes, ProbeConfig

ABLATED = (2, 5, 10, 20, 50, 100, 500)


@dataclass(frozen=True, kw_only=True)
class PerturbationConfig:
    """How SCR and TPP are measured."""

    ablated: tuple[int, ...] = ABLATED
    """How many latents are set to zero; counts above the SAE's width are left out."""
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    """How the probes are trained."""
    seed: int = 0
    """Of the choice of samples and of their order in training."""

    def __post_init__(self) -> None:
        if not self.ablated or min(self.ablated) < 1:
            raise ConfigError(
                f"`ablated` is {self.ablated}; expected one or more counts of at least 1."
            )

    def counts(self, width: int) -> tuple[int, ...]:
        """The numbers of latents that an SAE of this width can lose."""
        return tuple(sorted({n for n in self.ablated if n <= width}))


@dataclass(frozen=True, kw_only=True, eq=False)
class Documents:
    """Documents as SCR and TPP see them."""

    x: Float[Tensor, "document d_in"]
    """Mean activation over each document's tokens."""
    z: Float[Tensor, "_document latent"]
    """Mean latent activation over the same tokens."""

    def __post_init__(self) -> None:
        if len(self.x) != len(self.z):
            raise ShapeError(
                f"{len(self.x)} mean activations and {len(self.z)} mean latent activations; "
                "expected one of each for every document."
            )

    def take(self, rows: Int[Tensor, " row"]) -> "Documents":
        """Some of the documents."""
        return Documents(x=self.x[rows], z=self.z[rows])


def latent_effects(
    z: Float[Tensor, "document latent"],
    y: Bool[Tensor, " document"],
    weight: Float[Tensor, " d_in"],
    W_dec: Float[Tensor, "latent d_in"],
) -> tuple[Float[Tensor, " latent"], Float[Tensor, " latent"]]:
    r"""How each latent's activation differs between two classes, and how the probe sees the latent.

    **Returns:** $\bar z_j^{+} - \bar z_j^{-}$ and $w d_j$; their product is the latent's
    first-order effect on the probe's logit.
    """
    return z[y].mean(0) - z[~y].mean(0), W_dec @ weight


def strongest(effect: Float[Tensor, " latent"], n: int) -> Int[Tensor, " chosen"]:
    """The latents with the `n` largest effects, leaving out those without any effect."""
    order = effect.argsort(descending=True, stable=True)
    return order[effect[order] != 0][:n]


def accuracy_without(
    probes: LinearProbes,
    probe: int,
    documents: Documents,
    y: Bool[Tensor, " document"],
    W_dec: Float[Tensor, "latent d_in"],
    latents: Int[Tensor, " ablated"] | None = None,
) -> float:
    """A probe's accuracy on documents that have lost some latents; all are kept if None."""
    logit = documents.x @ probes.weight[probe] + probes.bias[probe]
    if latents is not None and len(latents):
        logit = logit - documents.z[:, latents] @ (W_dec[latents] @ probes.weight[probe])
    return float(((logit > 0) == y).double().mean())
