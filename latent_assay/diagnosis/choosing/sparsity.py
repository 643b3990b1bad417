"""Is L0 too low or too high?"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from latent_assay.diagnosis.choosing.choice import Choice
from latent_assay.diagnosis.choosing.minimum import Minimum, minimum
from latent_assay.diagnosis.choosing.sweep import Sweep, beyond, told
from latent_assay.errors import ConfigError

COSINE, PROJECTION = "decoder_pairwise_cosine", "nth_decoder_projection"


def choose_sparsity(sweep: Sweep, *, floor: float | None = None, seed: int = 0) -> Choice:
    r"""The L0 at which latents mix features least.

    Read from $c_{dec}$; $\lvert s_n \rvert$ is a check on it, or takes its place where the grid
    does not enclose the minimum of $c_{dec}$ but does enclose that of $\lvert s_n \rvert$. In
    worlds of known L0 the first is sharp, while the second is nearly level from the true L0 to
    well above it. Where their intervals have nothing in common, the answer spans both and is not
    called determined.

    **Arguments:**
    - `sweep`: over a sparsity, with the curves `decoder_pairwise_cosine` and
      `nth_decoder_projection`.
    - `floor`: the pairwise cosine of random directions in the space of the activations, to be told
      beside it; None to leave that out.
    - `seed`: of the draws.

    **Raises:** `ConfigError` if neither curve is there; as `minimum`.

    **Reference:** Chanin and Garriga-Alonso 2025, "Sparse but Wrong", arXiv:2508.16560. That paper
    reads minimum or elbow by eye.
    """
    readings: dict[str, Minimum] = {}
    for name in (COSINE, PROJECTION):
        if name in sweep.curves:
            readings[name] = minimum(sweep.values, _size(sweep, name), seed=seed)
    if not readings:
        raise ConfigError(
            f"{sweep.name}: an L0 is chosen by the curves `{COSINE}` and `{PROJECTION}`, found "
            f"{', '.join(sweep.curves) or 'none'}."
        )
    known = [name for name, each in readings.items() if each.determined]
    lead = known[0] if known else next(iter(readings))
    found, determined = readings[lead], bool(known)
    low, high = found.low, found.high
    evidence = [_sentence(sweep, name, each) for name, each in readings.items()]
    if floor is not None and COSINE in readings:
        evidence.append(
            f"Random directions have a pairwise cosine of {floor:.3g}: rows that training has "
            "hardly moved come near to it whatever the L0."
        )
    others = [each for name, each in readings.items() if name != lead]
    against = [each for each in others if each.shape != "one seed" and not found.overlaps(each)]
    for other in against:
        determined = False
        low = None if low is None or other.low is None else min(low, other.low)
        high = None if high is None or other.high is None else max(high, other.high)
        evidence.append("The two have no L0 in common, so the interval spans both.")
    return Choice(
        sweep=sweep,
        name=sweep.name,
        label=sweep.label,
        best=None if found.shape in ("flat", "one seed") else found.best,
        low=low,
        high=high,
        determined=determined,
        advice=_advice(sweep, found, low, high, contradicted=bool(against)),
        evidence=tuple(evidence),
        readings=readings,
    )


def _size(sweep: Sweep, name: str) -> Float[ndarray, "setting member part"]:
    """Below the right L0, $s_n$ may be as far below 0 as it is above."""
    return np.abs(sweep.curves[name]) if name == PROJECTION else sweep.curves[name]


def _advice(
    sweep: Sweep, found: Minimum, low: float | None, high: float | None, *, contradicted: bool
) -> str:
    label, values = sweep.label, sweep.values
    up = " to ".join(told(each) for each in beyond(values, up=True))
    lower = beyond(values, up=False)
    down = " to ".join(map(told, lower)) if lower[0] >= 2 else f"below {told(values[0])}"
    if found.shape == "one seed":
        return (
            "Not determined: with one seed there is no telling a minimum from luck. Give the grid "
            "`seeds = [0, 1, 2]`."
        )
    if contradicted:
        return (
            f"Not determined: the two measures disagree; the right {label} may lie from "
            f"{_end(low, values[0])} to {_end(high, values[-1])}. Add seeds and data, or values "
            "in between."
        )
    if found.shape == "falling":
        return (
            f"L0 is too low: the curve still falls at {label} = {told(values[-1])}. Try {label} "
            f"from {up}."
        )
    if found.shape == "rising":
        return (
            f"L0 is too high: the curve rises from the lowest {label}, {told(values[0])}, on. Try "
            f"{label} {down}."
        )
    if found.shape == "level above":
        return (
            f"Not determined upwards: the curve falls until {label} = {told(found.candidates[0])} "
            f"and is level from there on within its noise. {label} of {told(found.low or 0)} or "
            f"less is too low; extend the grid to {up} to see where it rises, or add seeds."
        )
    if found.shape == "level below":
        return (
            f"Not determined downwards: the curve is level up to {label} = "
            f"{told(found.candidates[-1])} within its noise and rises behind it. {label} of "
            f"{told(found.high or 0)} or more is too high; extend the grid to {label} {down}, or "
            "add seeds."
        )
    if found.shape == "flat":
        return (
            f"Not determined: the curve is flat within its noise from {label} = "
            f"{told(values[0])} to {told(values[-1])}. Extend the grid to {label} {down} and to "
            f"{up}, or add seeds."
        )
    assert low is not None
    assert high is not None
    return (
        f"Take {label} = {told(found.best)}. Below {told(low)} L0 is too low, above {told(high)} "
        f"too high; add values between {told(low)} and {told(high)} to narrow it down."
    )


def _end(value: float | None, end: float) -> str:
    return f"beyond {told(end)}" if value is None else told(value)


_NAMES = {COSINE: "The decoder's pairwise cosine", PROJECTION: "The n-th decoder projection (size)"}


def _sentence(sweep: Sweep, name: str, found: Minimum) -> str:
    told_shape = {
        "inside": f"falls and rises again, smallest at {told(found.best)}",
        "falling": "still falls at the highest value",
        "rising": "rises from the lowest value on",
        "level above": f"is smallest at {told(found.best)}, and no higher at the highest value "
        "within the noise",
        "level below": f"is smallest at {told(found.best)}, and no higher at the lowest value "
        "within the noise",
        "flat": f"is smallest at {told(found.best)}, but flat within its noise",
        "one seed": f"is smallest at {told(found.best)}, for one seed",
    }[found.shape]
    means = np.abs(sweep.curves[name]).mean((1, 2))
    return (
        f"{_NAMES[name]} {told_shape}: {means[0]:.3g} at {sweep.label} {told(sweep.values[0])}, "
        f"{means.min():.3g} at {told(sweep.values[int(means.argmin())])}, {means[-1]:.3g} at "
        f"{told(sweep.values[-1])}."
    )
