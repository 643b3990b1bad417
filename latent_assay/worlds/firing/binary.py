"""Firing laws with a wanted correlation between the binary variables themselves."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from latent_assay.errors import ShapeError, WorldError
from latent_assay.worlds.firing.copula import GaussianCopula
from latent_assay.worlds.firing.correlation import TOLERANCE, Correlation, nearest_correlation
from latent_assay.worlds.firing.normal import correlation_for
from latent_assay.worlds.firing.table import Table
from latent_assay.worlds.rates import checked_rates

# A wanted correlation may sit exactly on the edge of what is possible.
ROUNDING = 1e-9


def correlated_pair(rates: Sequence[float], correlation: float) -> Table:
    r"""Two features that fire with given rates and a given correlation, exactly.

    $$p_{11} = p_1 p_2 + \rho \sqrt{p_1 q_1 p_2 q_2}, \qquad q_i = 1 - p_i$$

    and the other three entries of the two-by-two table follow. Possible as long as none of them
    is negative, $\max(0, p_1 + p_2 - 1) \le p_{11} \le \min(p_1, p_2)$.

    **Arguments:**
    - `rates`: $p_1$ and $p_2$.
    - `correlation`: $\rho$ of the two binary variables.

    **Returns:** the table of the four patterns.

    **Raises:** `WorldError` naming the possible range, if $\rho$ lies outside.

    >>> law = correlated_pair((0.5, 0.5), 0.2)
    >>> law.patterns().probability
    tensor([0.3000, 0.2000, 0.2000, 0.3000], dtype=torch.float64)
    """
    pair = checked_rates(rates)
    if len(pair) != 2:
        raise WorldError(
            f"a pair has two features, but {len(pair)} rates were given. "
            "Use `correlated` for more features."
        )
    p, q = (torch.tensor([rate], dtype=torch.float64) for rate in pair)
    wanted = torch.tensor([correlation], dtype=torch.float64)
    both = _joint(p, q, wanted, lambda _: (0, 1)).item()
    first, second = p.item(), q.item()
    cells = {
        (): 1 - first - second + both,
        (0,): first - both,
        (1,): second - both,
        (0, 1): both,
    }
    # rounding may leave -1e-17 where the truth is 0
    return Table.of({features: max(0.0, cell) for features, cell in cells.items()}, n_features=2)


def correlated(
    rates: Sequence[float],
    correlations: Float[Tensor, "feature feature"],
    *,
    nearest: bool = False,
) -> GaussianCopula:
    r"""Features that fire with given rates and given correlations of the binary variables.

    For each pair the Gaussian correlation is found at which both exceed their thresholds with
    probability $p_{ij} = p_i p_j + \rho_{ij} \sqrt{p_i q_i p_j q_j}$. The copula then has the
    wanted correlations exactly, provided that the Gaussian ones form a correlation matrix.
    If they do not, no Gaussian copula has the wanted ones (some other law may).

    **Arguments:**
    - `rates`: how often each feature fires.
    - `correlations`: the wanted correlations of firing.
    - `nearest`: if no copula has them, take the nearest correlation matrix instead;
      what results is then `binary_correlation()` of the copula.

    **Raises:** `WorldError` if a pair cannot have its correlation at its rates, or if the pairs
    together cannot and `nearest` was not asked for.
    """
    p = torch.tensor(checked_rates(rates), dtype=torch.float64)
    wanted = correlations.detach().to("cpu", torch.float64)
    if wanted.shape != (p.numel(), p.numel()):
        raise ShapeError(
            f"`correlations` has shape {tuple(wanted.shape)}, but {p.numel()} features need "
            f"({p.numel()}, {p.numel()})."
        )
    if not torch.allclose(wanted, wanted.T, atol=TOLERANCE, rtol=0):
        raise WorldError(
            "`correlations` is not symmetric, but a pair has one correlation. "
            "Use (correlations + correlations.T) / 2."
        )
    i, j = torch.triu_indices(p.numel(), p.numel(), offset=1)
    joint = _joint(p[i], p[j], wanted[i, j], lambda at: (int(i[at]), int(j[at])))
    # Uncorrelated pairs are independent, also where a rate of 0 or 1 makes a threshold infinite.
    apart = wanted[i, j] == 0
    thresholds = -torch.special.ndtri(p)
    latent = torch.eye(p.numel(), dtype=torch.float64)
    i, j = i[~apart], j[~apart]
    latent[i, j] = latent[j, i] = correlation_for(thresholds[i], thresholds[j], joint[~apart])
    least = torch.linalg.eigvalsh(latent)[0].item()
    if least >= -TOLERANCE:
        return GaussianCopula(rates=rates, correlation=Correlation.full(latent))
    copula = GaussianCopula(rates=rates, correlation=Correlation.full(nearest_correlation(latent)))
    if nearest:
        return copula
    off = (copula.binary_correlation() - wanted).fill_diagonal_(0.0).nan_to_num(0.0).abs()
    raise WorldError(
        "each pair could have its correlation, but no Gaussian copula has them all: the Gaussian "
        f"correlations would have the eigenvalue {least:.3g}. Weaken them, or pass `nearest=True` "
        f"for the nearest ones, which differ from the wanted by up to {off.max().item():.3g}."
    )


def _joint(
    p: Float64[Tensor, " pair"],
    q: Float64[Tensor, " pair"],
    correlation: Float64[Tensor, " pair"],
    names: Callable[[int], tuple[int, int]],
) -> Float64[Tensor, " pair"]:
    """P(both fire), or an error that names the pair which cannot have its correlation."""
    spread = (p * (1 - p) * q * (1 - q)).sqrt()
    joint = p * q + correlation * spread
    least, most = (p + q - 1).clamp(min=0.0), torch.minimum(p, q)
    constant = (spread == 0) & (correlation != 0)
    beyond = ~((joint >= least - ROUNDING) & (joint <= most + ROUNDING)) | constant
    if beyond.any():
        at = int(beyond.nonzero()[0])
        i, j = names(at)
        rates = f"features {i} and {j}, firing at rates {p[at]:g} and {q[at]:g},"
        if constant[at]:
            raise WorldError(
                f"{rates} cannot have correlation {correlation[at]:g}: one of them never varies. "
                "Give it a rate strictly between 0 and 1, or correlation 0."
            )
        low, high = ((edge[at] - p[at] * q[at]) / spread[at] for edge in (least, most))
        raise WorldError(
            f"{rates} cannot have correlation {correlation[at]:g}: "
            f"it can only lie between {low:.3f} and {high:.3f}. "
            "Choose one within, or rates that are nearer to each other."
        )
    return joint.clamp(min=least, max=most)
