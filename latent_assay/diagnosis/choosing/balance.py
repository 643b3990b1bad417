"""Which coefficients of matryoshka levels?"""

import numpy as np

from latent_assay.diagnosis.choosing.choice import Choice
from latent_assay.diagnosis.choosing.minimum import Minimum, minimum
from latent_assay.diagnosis.choosing.sweep import Sweep, told
from latent_assay.errors import ConfigError

ABSORBED, HEDGED, TOTAL = "absorbed_share", "hedged_share", "absorbed_or_hedged"


def choose_balance(sweep: Sweep, *, seed: int = 0) -> Choice:
    """The multiplier at which fewest latents are absorbed, absorbing or hedged.

    Small multipliers leave the inner levels free, and children absorb their parents; large ones
    make the inner levels, which are narrow, hedge. The minimum of the share of latents that have
    any of these failures is where the two balance.

    **Arguments:**
    - `sweep`: over multipliers, with the curve `absorbed_or_hedged`, and as far as known
      `absorbed_share`, `hedged_share` and `fvu`.
    - `seed`: of the draws.

    **Raises:** `ConfigError` if the curve is not there; as `minimum`.

    **Reference:** the trade-off is that of Chanin et al. 2025, "Feature Hedging",
    arXiv:2505.11756, section 5; that it is read from a diagnosis is ours.
    """
    if TOTAL not in sweep.curves:
        raise ConfigError(
            f"{sweep.name}: a multiplier is chosen by the shares of absorbed and hedged latents, "
            "which the diagnosis finds; let it run."
        )
    found = minimum(sweep.values, sweep.curves[TOTAL], seed=seed)
    evidence = [
        f"{name}: "
        + "; ".join(
            f"{told(value)}: {mean:.1%}" if name != "FVU" else f"{told(value)}: {mean:.3f}"
            for value, mean in zip(
                sweep.values, sweep.curves[curve].mean((1, 2)).tolist(), strict=True
            )
        )
        + "."
        for name, curve in (
            ("Absorbed or absorbing", ABSORBED),
            ("Hedged", HEDGED),
            ("Any of them", TOTAL),
            ("FVU", "fvu"),
        )
        if curve in sweep.curves
    ]
    return Choice(
        sweep=sweep,
        name=sweep.name,
        label=sweep.label,
        best=None if found.shape in ("flat", "one seed") else found.best,
        low=found.low,
        high=found.high,
        determined=found.determined,
        advice=_advice(sweep, found),
        evidence=tuple(evidence),
        readings={TOTAL: found},
    )


def _advice(sweep: Sweep, found: Minimum) -> str:
    values, label = sweep.values, sweep.label
    mean = sweep.curves[TOTAL].mean((1, 2))
    at = f"{told(values[int(np.argmin(mean))])} ({mean.min():.1%} of latents absorbed or hedged)"
    if found.shape == "one seed":
        return (
            "Not determined: with one seed there is no telling a minimum from luck. Give the grid "
            "`seeds = [0, 1, 2]`."
        )
    if found.shape == "inside":
        return (
            f"Take {label} = {at}. From {told(found.low or 0)} down more latents are broken, and "
            f"from {told(found.high or 0)} up too."
        )
    if found.shape == "flat":
        return (
            f"Not determined: no {label} from {told(values[0])} to {told(values[-1])} is better "
            "than the others by more than the noise. Choose by FVU, or add seeds and activations."
        )
    if found.shape == "falling":
        return (
            f"The highest {label} is the best, {at}: absorption outweighs hedging throughout. Try "
            f"{told(2 * values[-1])}."
        )
    if found.shape == "rising":
        beyond = (
            "With 0, inner levels do not count at all: a plain SAE does best here."
            if values[0] == 0
            else f"Try {told(values[0] / 2)} and 0."
        )
        return f"The lowest {label} is the best, {at}: hedging outweighs absorption. {beyond}"
    among = f"from {told(found.candidates[0])} to {told(found.candidates[-1])}"
    return (
        f"Any {label} {among} may be the best within the noise; the smallest share is at {at}. "
        "Add seeds and activations to tell them apart."
    )
