r"""Which failures each latent truly has, in a world whose features are known.

Every failure has a *strength* from 0 to 1, defined on features and samples with their truth, and
two bars. At or above the upper bar the latent clearly has the failure, below the lower one it has
not; between them lies a *grey zone* that counts neither for nor against a detector, and whose size
is reported. A latent may have several failures.

| failure | strength | none below | clear from |
|---|---|---|---|
| absorbed | hole left by a child, if the child's latent carries the parent | .05 | .2 |
| absorbing | share of a parent's magnitude that it carries, where that leaves a hole | .1 | .25 |
| hedged | length of the foreign part of the decoder row, relative to its own | .08 | .15 |
| duplicate | overlap of firing with a latent of the same direction | .2 | .5 |
| split | least recall of two latents that divide a feature | .05 | .1 |
| composed | F1 gained by reading it as a conjunction | .05 | .2 |
| several peaks | share of firings that another feature causes, more weakly | .05 | .15 |
| dense | how often it fires, unless its feature does | .3 | .5 |
| dead | whether it never fires | .25 | .75 |
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from torch.nn.functional import normalize

from latent_assay.diagnosis.calibration.composition import Composition, composition
from latent_assay.diagnosis.calibration.holes import Hole, holes
from latent_assay.diagnosis.verdict import FAILURES, Verdict
from latent_assay.errors import ShapeError
from latent_assay.sae import SAE
from latent_assay.worlds import Sample, World


@dataclass(frozen=True)
class Bars:
    """From where a failure's strength counts."""

    none: float
    """Below this the latent does not have the failure."""
    clear: float
    """From here it clearly has."""


BARS: dict[Verdict, Bars] = {
    Verdict.ABSORBED: Bars(0.05, 0.2),
    Verdict.ABSORBING: Bars(0.1, 0.25),
    Verdict.HEDGED: Bars(0.08, 0.15),
    Verdict.DUPLICATE: Bars(0.2, 0.5),
    Verdict.SPLIT: Bars(0.05, 0.1),
    Verdict.COMPOSED: Bars(0.05, 0.2),
    Verdict.SEVERAL_PEAKS: Bars(0.05, 0.15),
    Verdict.DENSE: Bars(0.3, 0.5),
    Verdict.DEAD: Bars(0.25, 0.75),
}
"""The bars of every failure."""

CARRIES = 0.25
"""A child's latent that carries this share of the parent, or more, explains the hole entirely."""
NEEDED = 0.9
"""A feature that fires in this share of a latent's firings is needed for it to fire."""
PART = 0.05
"""Smaller foreign parts of a decoder row, relative to its own, are noise."""
SAME, ALIKE = 0.9, 0.8
"""Cosines from which two decoder rows point the same way: surely, perhaps."""
SELDOM = 1e-4
"""A latent that fires less often than this, but does fire, may look dead."""
F1_OF_CLEAN = 0.8
"""A clean latent tells its feature with at least this F1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """Which failures each latent truly has, and how strongly."""

    strengths: Float64[Tensor, "latent failure"]
    """Strength of each failure, in the order of `FAILURES`."""
    clean: Bool[Tensor, " latent"]
    """Latents that tell one feature and have no failure, not even in the grey zone."""
    composition: Composition
    """Whose each latent is, and what it carries."""
    holes: tuple[Hole, ...]
    """What each child does to each latent of its parent."""
    n: int
    """Number of samples behind it."""

    @property
    def clear(self) -> Bool[Tensor, "latent failure"]:
        """Which failures each latent clearly has."""
        return self.strengths >= _bars("clear")

    @property
    def grey(self) -> Bool[Tensor, "latent failure"]:
        """Which failures count neither for nor against."""
        return (self.strengths >= _bars("none")) & ~self.clear

    def has(self, verdict: Verdict | str) -> Bool[Tensor, " latent"]:
        """Which latents clearly have a failure; or are clean."""
        verdict = Verdict(verdict)
        if verdict == Verdict.CLEAN:
            return self.clean
        return self.clear[:, FAILURES.index(verdict)]


def truth(sae: SAE, world: World, sample: Sample) -> Truth:
    r"""Which failures each latent truly has, by definition rather than by guess.

    With $\beta$, own features and firing as in `composition`, and holes as in `holes`:

    - *absorbed*: $\max_c \, h_c \min(1, \kappa_c / .25)$ over the children $c$ of the latent's own
      feature, where $h_c$ is the greater of the added silence
      $\delta = P(l \text{ silent} \mid p, c) - P(l \text{ silent} \mid p, \text{no child})$ and
      the deficit of its activation, and $\kappa_c$ is the share of the parent's magnitude that
      other latents carry because of the child. A hole that nobody fills (TopK has no room left) is
      none.
      In the grey zone at most if fewer than .6 of the latent's firings are its own feature's, or if
      it carries the child negatively ($\beta_{lc} / \beta_{lp} \le -.15$): then its own direction
      is missing with the child, and it is hedged rather than absorbed.
    - *absorbing*: $\max_p \kappa$ over the parents $p$ of its own feature, if it fills a hole with
      $h \ge .2$ that this feature leaves; in the grey zone at most, if $.05 \le h < .2$, if its own
      feature is another one, or if fewer than .6 of its own or of the parent's latent's firings are
      their own features'.
    - *hedged*: $\big(\sum_j (\beta_{lj} / \beta_{l i})^2\big)^{1/2}$ over the foreign features $j$
      with a part of at least .05 that no latent stands for, or that are absent in more than a tenth
      of the latent's firings, so that the part is wrong there. In the grey zone at most if the
      latent tells its own feature with F1 below .5, or is dense.
    - *duplicate*: the Jaccard index of its firing and that of another latent with cosine of the
      decoder rows of at least .9 (at least .8: in the grey zone at most).
    - *split*: for two latents of one feature with cosine at least .8, precision at least .7 and
      Jaccard index at most .2, the smaller of their recalls.
    - *composed*: F1 with the conjunction of two features that both make up its decoder row, minus
      the best F1 with a single feature; if the former is at least .6.
    - *several peaks*: the share of its firings in which its own feature is silent and one and the
      same other feature is not, if activations are below .7 of the usual there. If the decoder row
      does not carry that feature, it is mere interference: in the grey zone at most.
    - *dense*: how often it fires, if that is more than twice as often as its own feature does, or
      if it has none.
    - *dead*: 1 if it never fires, .5 if in less than one sample in 10,000.

    **Arguments:**
    - `sae`: one member; judged as exported.
    - `world`: its features.
    - `sample`: samples of that world; 20,000 or more, as rare events need them.

    **Raises:** `ShapeError` if the SAE has several members.
    """
    if sae.members != 1:
        raise ShapeError(
            f"truth is told of one SAE at a time, got {sae.members} members; take one with "
            "`sae.take(member)`."
        )
    with torch.no_grad():
        exported = sae.exported()
        z = exported.encode(sample.x)[0]
        decoder = exported.W_dec[0]
    made_of = composition(decoder, world.features, z, sample.firing)
    found = holes(made_of, z, sample.firing, sample.magnitudes)
    together = _jaccard(z)
    alike = _cosines(decoder)
    columns = {
        Verdict.ABSORBED: _absorbed(made_of, found),
        Verdict.ABSORBING: _absorbing(made_of, found),
        Verdict.HEDGED: _hedged(made_of, _dense(made_of)),
        Verdict.DUPLICATE: _duplicate(made_of, together, alike),
        Verdict.SPLIT: _split(made_of, together, alike),
        Verdict.COMPOSED: _composed(made_of, z, sample.firing),
        Verdict.SEVERAL_PEAKS: _several_peaks(made_of, z, sample.firing),
        Verdict.DENSE: _dense(made_of),
        Verdict.DEAD: _dead(made_of),
    }
    strengths = torch.stack([columns[verdict].clamp(0, 1) for verdict in FAILURES], dim=1)
    tells = made_of.own >= 0
    f1 = made_of.f1.gather(1, made_of.own.clamp_min(0)[:, None])[:, 0]
    clean = tells & (f1 >= F1_OF_CLEAN) & (strengths < _bars("none")).all(dim=1)
    return Truth(
        strengths=strengths,
        clean=clean,
        composition=made_of,
        holes=tuple(found),
        n=len(sample.x),
    )


def _bars(which: str) -> Float64[Tensor, " failure"]:
    return torch.tensor([getattr(BARS[each], which) for each in FAILURES], dtype=torch.float64)


def _absorbed(made_of: Composition, found: list[Hole]) -> Float64[Tensor, " latent"]:
    strength = torch.zeros(len(made_of.own), dtype=torch.float64)
    almost, sure = BARS[Verdict.ABSORBED].clear - 1e-6, made_of.sure
    ratios = made_of.ratios
    for hole in found:
        depth = hole.depth * min(1.0, hole.carried / CARRIES)
        # a latent that carries the child negatively is weak with it by its own direction
        hedges = bool(ratios[hole.latent, hole.child] <= -BARS[Verdict.HEDGED].clear)
        depth = min(depth, almost) if hedges or not sure[hole.latent] else depth
        strength[hole.latent] = max(float(strength[hole.latent]), depth)
    return strength


def _absorbing(made_of: Composition, found: list[Hole]) -> Float64[Tensor, " latent"]:
    strength, bars = torch.zeros(len(made_of.own), dtype=torch.float64), BARS[Verdict.ABSORBED]
    almost, sure = BARS[Verdict.ABSORBING].clear - 1e-6, made_of.sure
    for hole in found:
        if hole.depth < bars.none:
            continue
        for latent, carried in hole.carriers:
            both_sure = bool(sure[hole.latent] & sure[latent])
            certain = hole.depth >= bars.clear and both_sure
            certain = certain and int(made_of.own[latent]) == hole.child
            share = carried if certain else min(carried, almost)
            strength[latent] = max(float(strength[latent]), share)
    return strength


def _hedged(made_of: Composition, dense: Float64[Tensor, " latent"]) -> Float64[Tensor, " latent"]:
    ratios = made_of.ratios.clone()
    rows = (made_of.own >= 0).nonzero()[:, 0]
    ratios[rows, made_of.own[rows]] = 0
    wrong = ~made_of.represented[None] | (made_of.precision < NEEDED)
    parts = torch.where(wrong & (ratios.abs() >= PART), ratios, 0.0)
    strength = parts.norm(dim=1)
    # without a feature that is surely its own there is nothing to be foreign to
    almost = BARS[Verdict.HEDGED].clear - 1e-6
    own = made_of.own.clamp_min(0)[:, None]
    sure = (made_of.own >= 0) & (made_of.f1.gather(1, own)[:, 0] >= 0.5)
    sure &= dense < BARS[Verdict.DENSE].none
    strength = torch.where(sure, strength, strength.clamp_max(almost))
    return torch.where(made_of.rate > 0, strength, 0.0)


def _duplicate(made_of: Composition, together: Tensor, alike: Tensor) -> Float64[Tensor, " latent"]:
    almost = BARS[Verdict.DUPLICATE].clear - 1e-6
    surely = torch.where(alike >= SAME, together, 0.0)
    perhaps = torch.where(alike >= ALIKE, together.clamp_max(almost), 0.0)
    return torch.maximum(surely, perhaps).amax(dim=1)


def _split(made_of: Composition, together: Tensor, alike: Tensor) -> Float64[Tensor, " latent"]:
    own = made_of.own.clamp_min(0)[:, None]
    precision = made_of.precision.gather(1, own)[:, 0]
    recall = made_of.recall.gather(1, own)[:, 0]
    sure = (made_of.own >= 0) & (precision >= 0.7)
    pair = (made_of.own[:, None] == made_of.own[None]) & sure[:, None] & sure[None]
    pair &= (alike >= ALIKE) & (together <= 0.2)
    pair.fill_diagonal_(False)
    return torch.where(pair, torch.minimum(recall[:, None], recall[None]), 0.0).amax(dim=1)


def _composed(
    made_of: Composition,
    z: Float[Tensor, "sample latent"],
    firing: Bool[Tensor, "sample feature"],
) -> Float64[Tensor, " latent"]:
    strength = torch.zeros(len(made_of.own), dtype=torch.float64)
    beta = made_of.coefficients
    parts = (beta >= 0.4 * beta.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)) & (
        made_of.precision >= 0.7
    )
    for latent in (parts.sum(dim=1) >= 2).nonzero()[:, 0].tolist():
        fires, single = z[:, latent] != 0, float(made_of.f1[latent].max())
        candidates = parts[latent].nonzero()[:, 0].tolist()
        for at, one in enumerate(candidates):
            for other in candidates[at + 1 :]:
                both = firing[:, one] & firing[:, other]
                f1 = 2 * float((both & fires).sum()) / max(1.0, float(both.sum() + fires.sum()))
                if f1 >= 0.6:
                    strength[latent] = max(float(strength[latent]), f1 - single)
    return strength


def _several_peaks(
    made_of: Composition,
    z: Float[Tensor, "sample latent"],
    firing: Bool[Tensor, "sample feature"],
) -> Float64[Tensor, " latent"]:
    strength, ratios = torch.zeros(len(made_of.own), dtype=torch.float64), made_of.ratios
    almost = BARS[Verdict.SEVERAL_PEAKS].clear - 1e-6
    for latent, own in enumerate(made_of.own.tolist()):
        fires = z[:, latent] != 0
        if own < 0 or not bool(fires.any()):
            continue
        with_own, without = fires & firing[:, own], fires & ~firing[:, own]
        if not bool(with_own.any()) or not bool(without.any()):
            continue
        cause = firing[without].double().mean(0).max(dim=0)
        weak = z[without, latent].mean() < 0.7 * z[with_own, latent].mean()
        if cause.values >= 0.8 and bool(weak):
            share = float(without.sum() / fires.sum())
            carried = float(ratios[latent, cause.indices].abs()) >= PART
            strength[latent] = share if carried else min(share, almost)
    return strength


def _dense(made_of: Composition) -> Float64[Tensor, " latent"]:
    own = made_of.own.clamp_min(0)
    explained = made_of.feature_rate[own] * 2
    has = (made_of.own >= 0) & (made_of.rate <= explained)
    return torch.where(has, 0.0, made_of.rate)


def _dead(made_of: Composition) -> Float64[Tensor, " latent"]:
    seldom = torch.where(made_of.rate < SELDOM, 0.5, 0.0).double()
    return torch.where(made_of.rate == 0, 1.0, seldom)


def _jaccard(z: Float[Tensor, "sample latent"]) -> Float64[Tensor, "latent latent"]:
    fires = (z != 0).float()
    both = (fires.T @ fires).double()
    count = both.diagonal()
    either = count[:, None] + count[None] - both
    return torch.where(either > 0, both / either.clamp_min(1), 0.0).fill_diagonal_(0.0)


def _cosines(rows: Float[Tensor, "latent d_in"]) -> Float64[Tensor, "latent latent"]:
    unit = normalize(rows.double(), dim=-1)
    return (unit @ unit.T).fill_diagonal_(0.0)
