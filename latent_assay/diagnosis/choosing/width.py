"""Is the SAE too narrow?"""

from latent_assay.diagnosis.choosing.choice import Choice
from latent_assay.diagnosis.choosing.levelling import Levelling, levelling
from latent_assay.diagnosis.choosing.sweep import Hedging, Sweep, told
from latent_assay.errors import ConfigError

FVU, HEDGED = "fvu", "hedged_share"


def choose_width(
    sweep: Sweep | None = None, hedging: Hedging | None = None, *, seed: int = 0
) -> Choice:
    r"""The width from which on latents are not hedged for want of latents.

    Where extensions were made over widths, their hedging degree decides: too narrow is a width at
    which it is above its null (Welch's test at 5%). Otherwise two curves over the width are read,
    each for where it becomes level (`levelling`): the FVU, of which an SAE as wide as there are
    features gains nothing more, and the share of latents that the diagnosis calls hedged. The
    FVU goes first if it becomes level within the grid. Where it falls to the end, as it does on
    language models, while the share of hedged latents does not fall, nothing is determined: wider
    SAEs reconstruct better, but the diagnosis does not find them to hedge less.

    **Arguments:**
    - `sweep`: over widths, with the curve `fvu` and, as far as known, `hedged_share`.
    - `hedging`: hedging degrees.
    - `seed`: of the draws.

    **Raises:** `ConfigError` if there is nothing to read; as `levelling`.
    """
    readings: dict[str, Levelling] = {}
    for name in (FVU, HEDGED):
        if sweep is not None and name in sweep.curves:
            readings[name] = levelling(sweep.values, sweep.curves[name], seed=seed)
    evidence = [_sentence(name, each) for name, each in readings.items()]
    if hedging is not None:
        return _by_degree(sweep, hedging, readings, evidence)
    if not readings:
        raise ConfigError(
            "a width is chosen by the curves `fvu` and `hedged_share`, or by hedging degrees; "
            "found none of them."
        )
    assert sweep is not None
    if _disagree(readings):
        return _undecided(sweep, readings, evidence)
    known = [name for name in (FVU, HEDGED) if name in readings and readings[name].determined]
    lead = known[0] if known else HEDGED if HEDGED in readings else FVU
    found = readings[lead]
    return Choice(
        sweep=sweep,
        name=sweep.name,
        label="width",
        best=None if found.shape == "one seed" else found.best,
        low=found.low,
        high=found.high,
        determined=found.determined,
        advice=_advice(sweep, lead, found),
        evidence=tuple(evidence),
        readings=readings,
    )


def _disagree(readings: dict[str, Levelling]) -> bool:
    return (
        HEDGED in readings
        and FVU in readings
        and readings[FVU].shape == "falling"
        and readings[HEDGED].shape == "level"
    )


def _undecided(sweep: Sweep, readings: dict[str, Levelling], evidence: list[str]) -> Choice:
    """FVU asks for more latents, the diagnosis does not."""
    mean = sweep.curves[HEDGED].mean((1, 2))
    moves = f"goes from {mean[0]:.0%} to {mean[-1]:.0%}"
    return Choice(
        sweep=sweep,
        name=sweep.name,
        label="width",
        best=None,
        low=None,
        high=None,
        determined=False,
        advice=(
            f"Not determined: the FVU still falls at width {told(sweep.values[-1])}, but the share "
            f"of hedged latents does not fall with the width; it {moves}. Measure the hedging "
            "degree: an [[extension]] over `width` in the configuration."
        ),
        evidence=tuple(evidence),
        readings=readings,
    )


def _advice(sweep: Sweep, lead: str, found: Levelling) -> str:
    widest, narrowest = sweep.values[-1], sweep.values[0]
    what = "FVU" if lead == FVU else "share of hedged latents"
    if found.shape == "one seed":
        return (
            "Not determined: with one seed there is no telling a gain from luck. Give the grid "
            "`seeds = [0, 1, 2]`."
        )
    if found.shape == "falling":
        return (
            f"Too narrow, as far as this grid tells: the {what} still falls at width "
            f"{told(widest)}. Try {told(2 * widest)} and {told(4 * widest)}."
        )
    if found.shape == "level":
        return (
            f"Not determined: the {what} does not fall from width {told(narrowest)} on, by more "
            f"than its noise. Width {told(narrowest)} may do; extend the grid to "
            f"{told(max(1.0, narrowest / 4))} to see where it falls, or add seeds."
        )
    return (
        f"Take width {told(found.best)}: the {what} falls until there and gains nothing that "
        f"counts behind it. {told(found.low or 0)} is too narrow; the bend lies between that and "
        f"{told(found.high or 0)}."
    )


def _by_degree(
    sweep: Sweep | None, hedging: Hedging, readings: dict[str, Levelling], evidence: list[str]
) -> Choice:
    widths = sorted(hedging.degree)
    above = [
        width
        for width in widths
        if hedging.degree[width].mean > hedging.null[width].mean
        and hedging.degree[width].differs_from(hedging.null[width])
    ]
    evidence = [
        "Hedging degree (null): "
        + "; ".join(
            f"{width:,}: {hedging.degree[width]:.3f} ({hedging.null[width]:.3f})"
            for width in widths
        )
        + ".",
        *evidence,
    ]
    seeds = min(each.n for each in (*hedging.degree.values(), *hedging.null.values()))
    narrow = max(above, default=None)
    wide = [width for width in widths if narrow is None or width > narrow]
    if seeds < 2:
        best, low, high = None, None, None
        advice = "Not determined: with one seed there is no telling a hedging degree from its null."
    elif narrow is None:
        best, low, high = float(widths[0]), None, float(widths[0])
        advice = (
            f"Wide enough: at no width is the hedging degree above its null. Width "
            f"{widths[0]:,} may do; extend the grid downwards to see where hedging begins."
        )
    elif not wide:
        best, low, high = float(widths[-1]), float(widths[-1]), None
        advice = (
            f"Too narrow: the hedging degree is above its null at every width, up to "
            f"{narrow:,}. Try {2 * narrow:,} and {4 * narrow:,}."
        )
    else:
        best, low, high = float(wide[0]), float(narrow), float(wide[0])
        advice = (
            f"Take width {wide[0]:,}: up to {narrow:,} latents hedge, as new ones take over more "
            "than training noise explains; from there on they do not, as far as can be measured."
        )
    return Choice(
        sweep=sweep,
        name=hedging.name if sweep is None else sweep.name,
        label="width",
        best=best,
        low=low,
        high=high,
        determined=low is not None and high is not None,
        advice=advice,
        evidence=tuple(evidence),
        readings=readings,
        hedging=hedging,
    )


def _sentence(name: str, found: Levelling) -> str:
    what = "FVU" if name == FVU else "Share of hedged latents"
    steps = "; ".join(
        f"{told(each.first)} to {told(each.second)}: {each.per_doubling:.3g} "
        f"({each.low:.3g} to {each.high:.3g})"
        for each in found.gains
    )
    return f"{what}, fall per doubling of the width (95% interval): {steps}."
