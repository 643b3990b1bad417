r"""Fitting the models from evidence to probability, on latents whose truth is known.

One logistic model for each failure and tier, additive in a few columns of evidence that are named
in `evidence_used`. Each column enters through straight pieces between knots, and may only raise
the probability or only lower it where its meaning says so: what is learned on some worlds then
cannot turn round on others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray

from latent_assay.diagnosis.calibration.table import TIERS, Table
from latent_assay.diagnosis.calibration_model import Calibration, Term, VerdictModel
from latent_assay.diagnosis.evidence import Tier
from latent_assay.diagnosis.verdict import FAILURES, Verdict

RIDGE = 3e-4
"""Coefficient of the squared weights, beside the mean log loss."""
PIECES = 3
"""Straight pieces per column."""
TAILS = (0.02, 0.98)
"""Quantiles beyond which a column is clipped."""


@dataclass(frozen=True)
class Use:
    """A column of evidence as a model uses it."""

    column: str
    """Its name; or several joined by `*`, which are multiplied."""
    sign: int = 0
    """1: more of it speaks for the failure; -1: against; 0: the data decide."""
    knots: tuple[float, ...] = ()
    """Ends of the pieces; quantiles of the data if none are given."""


def fitted(table: Table, uses: dict[Tier, dict[Verdict, Sequence[Use]]]) -> Calibration:
    """Fit the models of all failures and tiers.

    Latents in a failure's grey zone are left out; each world weighs the same. A failure of which
    the table has fewer than ten cases, or for which no evidence is named, gets no model: it is
    not seen.

    **Arguments:**
    - `table`: latents of worlds to fit on.
    - `uses`: which evidence speaks for and against each failure.

    **Returns:** a calibration without provenance; the tier of a continuation has the models of
    the activations.
    """
    models: dict[Tier, dict[Verdict, VerdictModel]] = {}
    for tier in TIERS:
        models[tier] = {}
        for verdict in FAILURES:
            wanted = uses.get(tier, {}).get(verdict, ())
            clear, counts = table.clear(verdict), ~table.grey(verdict)
            if not wanted or int(clear.sum()) < 10:
                continue
            models[tier][verdict] = humbled(
                {name: values[counts] for name, values in table.columns[tier].items()},
                clear[counts],
                table.world[counts],
                wanted,
            )
    models[Tier.CONTINUATION] = models[Tier.ACTIVATIONS]
    return Calibration(models=models)


def humbled(
    columns: dict[str, Float[ndarray, " latent"]],
    truth: Bool[ndarray, " latent"],
    world: ndarray,
    uses: Sequence[Use],
) -> VerdictModel:
    r"""A model whose probabilities are those of a world that it has not seen.

    For each world a model is fitted on the others and scores it. The scores of all worlds,
    $s$, are then brought to probabilities by $a s + b$ with $a \ge 0$ (logistic regression), and
    the model that is fitted on all worlds is scaled by the same $a$ and $b$: what holds in some
    worlds only counts for less.

    **Arguments:** as for `model`.

    **Reference:** Platt 1999, "Probabilistic Outputs for Support Vector Machines".
    """
    whole = model(columns, truth, world, uses)
    worlds = sorted(set(world.tolist()))
    if len(worlds) < 2 or not whole.terms:
        return whole
    scores = np.zeros(len(truth))
    for name in worlds:
        left_out = world == name
        others = {key: values[~left_out] for key, values in columns.items()}
        if not truth[~left_out].any():
            return whole
        part = model(others, truth[~left_out], world[~left_out], uses)
        own = {key: values[left_out] for key, values in columns.items()}
        scores[left_out] = part.bias + sum(
            (term.value(own, int(left_out.sum())) for term in part.terms), np.zeros(1)
        )
    weight = _even(world)
    (a,), b = _logistic(np.clip(scores, -30, 30)[:, None], truth, weight, np.array([1]))
    a = float(np.clip(a, 0.05, 1.5))
    return VerdictModel(
        bias=round(a * whole.bias + b, 5),
        terms=tuple(replace(term, weight=round(a * term.weight, 5)) for term in whole.terms),
    )


def _even(world: ndarray) -> Float[ndarray, " latent"]:
    """Weights that sum to one, and to the same in each world."""
    weight = np.zeros(len(world))
    for name in set(world.tolist()):
        weight[world == name] = 1 / (world == name).sum()
    return weight / weight.sum()


def model(
    columns: dict[str, Float[ndarray, " latent"]],
    truth: Bool[ndarray, " latent"],
    world: ndarray,
    uses: Sequence[Use],
) -> VerdictModel:
    r"""One logistic model, additive in straight pieces of its columns.

    Minimises $\sum_w \frac1{W n_w} \sum_{l \in w} \ell(y_l, s_l) + \rho \sum_j w_j^2$ with the
    weights of a column's pieces all of the sign that its use demands.

    **Arguments:**
    - `columns`: evidence.
    - `truth`: which latents have the failure.
    - `world`: the world of each; all worlds weigh the same.
    - `uses`: which columns, and in which direction.
    """
    n = len(truth)
    weight = _even(world)
    terms, signs = [], []
    for use in uses:
        for piece in _pieces(use, columns, truth, weight):
            terms.append(piece)
            signs.append(use.sign)
    if not terms:
        share = float(np.clip(weight @ truth, 1e-3, 1 - 1e-3))
        return VerdictModel(bias=float(np.log(share / (1 - share))), terms=())
    X = np.stack([each.value(columns, n) for each in terms], axis=1)
    w, bias = _logistic(X, truth, weight, np.array(signs))
    return VerdictModel(
        bias=round(bias, 5),
        terms=tuple(
            Term(
                column=each.column,
                weight=round(float(value), 5),
                centre=each.centre,
                scale=each.scale,
                low=each.low,
                high=each.high,
            )
            for each, value in zip(terms, w, strict=True)
            if abs(value) > 1e-3
        ),
    )


def _pieces(
    use: Use,
    columns: dict[str, ndarray],
    truth: Bool[ndarray, " latent"],
    weight: Float[ndarray, " latent"],
) -> list[Term]:
    """The column clipped to each stretch between two knots, standardised, with weight 1."""
    values = np.ones(len(truth))
    for name in use.column.split("*"):
        values = values * columns.get(name, np.full(len(truth), np.nan))
    real = np.isfinite(values)
    if real.sum() < 20:
        return []
    knots = use.knots or _knots(values[real], truth[real])
    found = []
    for low, high in pairwise(knots):
        clipped = np.clip(values[real], low, high)
        share = weight[real] / weight[real].sum()
        centre = float(share @ clipped)
        spread = float(np.sqrt(share @ (clipped - centre) ** 2))
        if spread < 1e-9:
            continue
        found.append(
            Term(
                column=use.column,
                weight=1.0,
                centre=float(f"{centre:.6g}"),
                scale=float(f"{spread:.6g}"),
                low=float(low),
                high=float(high),
            )
        )
    return found


def _knots(values: Float[ndarray, " real"], truth: Bool[ndarray, " real"]) -> tuple[float, ...]:
    """Quantiles of those with the failure and of those without, as if there were as many."""
    at = np.linspace(*TAILS, PIECES + 1)
    sides = [values[side] for side in (truth, ~truth) if side.any()]
    size = max(len(side) for side in sides)
    even = np.concatenate([np.quantile(side, (np.arange(size) + 0.5) / size) for side in sides])
    knots = [float(f"{each:.5g}") for each in np.quantile(even, at)]
    return tuple(sorted(set(knots)))


def _logistic(
    X: Float[ndarray, "latent term"],
    truth: Bool[ndarray, " latent"],
    weight: Float[ndarray, " latent"],
    signs: ndarray,
) -> tuple[Float[ndarray, " term"], float]:
    """Weights and bias; weights with a sign are its square's multiple, so that they keep it."""
    x, y, share = (torch.from_numpy(each.astype(float)) for each in (X, truth, weight))
    sign = torch.from_numpy(signs.astype(float))
    free = sign == 0
    root = torch.where(free, 0.0, 0.3).requires_grad_()
    start = float(np.clip(weight @ truth, 1e-3, 1 - 1e-3))
    bias = torch.tensor(np.log(start / (1 - start)), dtype=torch.float64, requires_grad=True)

    def weights() -> torch.Tensor:
        return torch.where(free, root, sign * root.square())

    optimiser = torch.optim.LBFGS(
        [root, bias], max_iter=400, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        w = weights()
        each = torch.nn.functional.binary_cross_entropy_with_logits(
            x @ w + bias, y, reduction="none"
        )
        total = share @ each + RIDGE * w.square().sum()
        total.backward()
        return total

    optimiser.step(loss)
    with torch.no_grad():
        return weights().numpy(), float(bias)
