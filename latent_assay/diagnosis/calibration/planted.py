r"""SAEs whose failures were put there by hand, so that they are known by construction too.

The start is the SAE that knows every feature: encoder rows that read the magnitudes, decoder rows
along the features, thresholds well below the usual magnitude. Failures are planted on features of
their own, with encoder, threshold and decoder in step, so that the SAE works as a trained one with
that failure would.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.diagnosis.calibration.holes import children
from latent_assay.diagnosis.verdict import Verdict
from latent_assay.errors import ConfigError
from latent_assay.sae import SAE
from latent_assay.sparsifiers import JumpReLU
from latent_assay.worlds import Sample, World


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many of each failure to plant, as far as the world has room, and how strongly."""

    absorbed: int = 2
    """Parents, each absorbed by one of its children or by several."""
    delta: tuple[float, float] = (0.75, 1.0)
    r"""Range of $\delta$, the share of the parent that moves into the child."""
    hedged: int = 2
    """Latents that take in a relative that loses its own latent."""
    duplicates: int = 1
    """Features with two latents."""
    splits: int = 1
    """Features whose latents divide their occasions."""
    composed: int = 1
    """Pairs of features with a latent of their own for both together."""
    dead: int = 2
    """Latents that never fire."""
    dense: int = 0
    """Latents that fire nearly always."""
    noise: float = 0.02
    """Standard deviation of what is added to every row, relative to its length."""

    def __post_init__(self) -> None:
        low, high = self.delta
        if not 0 < low <= high <= 1:
            raise ConfigError(
                f"`delta` is {self.delta}, but shares lie above 0, up to 1, the lower one first."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Planted:
    """An SAE and what was planted in it."""

    sae: SAE
    """One member."""
    failures: dict[int, set[Verdict]]
    """What was planted in which latents; all others are clean."""
    hedges: dict[int, tuple[int, float]] = field(default_factory=dict)
    """For hedged latents: the foreign feature, and its coefficient relative to the own one."""
    absorptions: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    r"""For absorbed latents: the children's latents, and $\delta$."""


def planted(world: World, sample: Sample, plan: Plan, generator: torch.Generator) -> Planted:
    r"""Plant failures in the SAE that knows a world's features.

    - *absorbed* and *absorbing*, by the exact model: $d_c = f_c + \delta r f_p$ and
      $e_p = f_p^* - \delta r f_c^*$, where $f^*$ reads a magnitude and $r$ is the ratio of the
      usual magnitudes of parent and child.
    - *hedged*: a relative $j$ of $i$ (its child, its parent, or correlated with it) has no latent;
      $d_i = f_i + h f_j$ and $e_i = f_i^* + h f_j^* / 2$ (only $f_i^*$ if $|h| > .5$, as the latent
      would else be the other feature's) with
      $h = s\,\frac{\bar m_j}{\bar m_i} [P(j \mid i) - P(j \mid \neg i)]$, the theorem's value
      times $s \in [1, 1.5]$, and $b_{dec}$ takes the mean of what is left.
    - *duplicate*: two latents that each take a part of the magnitude, always together.
    - *split*: one latent for $i$ without $j$, one for $i$ with $j$, both along $f_i$.
    - *composed*: one latent along $f_i + f_j$ that fires with both, where their own are silent.
    - *dense*: a latent that fires nearly always and stands for the mean.
    - *dead*: a random latent that never fires.

    **Arguments:**
    - `world`: where.
    - `sample`: samples of it, from which magnitudes and relations are measured.
    - `plan`: how many of what.
    - `generator`: decides which features are hit.
    """
    return _Garden(world, sample, plan, generator).grow()


class _Garden:
    """The rows of an SAE while failures are planted."""

    def __init__(self, world: World, sample: Sample, plan: Plan, generator: torch.Generator):
        self.plan, self.generator = plan, generator
        self.features = world.features.double()
        n, d_in = self.features.shape
        on = sample.firing.double()
        self.rate = on.mean(0)
        self.size = sample.magnitudes.double().sum(0) / on.sum(0).clamp_min(1)
        self.family = children(sample.firing)
        both = on.T @ on / len(on)
        given = both / self.rate[:, None].clamp_min(1e-9)
        without = (self.rate[None] - both) / (1 - self.rate[:, None]).clamp_min(1e-9)
        self.lift = given - without
        free = n <= d_in and int(torch.linalg.matrix_rank(self.features)) == n
        self.readers = torch.linalg.pinv(self.features).T if free else self.features
        self.height = 0.3 if free else 0.5
        self.rows: list[tuple[Tensor, Tensor, float]] = []
        self.used: set[int] = set()
        self.bias = torch.zeros(d_in, dtype=torch.float64)
        self.failures: dict[int, set[Verdict]] = {}
        self.hedges: dict[int, tuple[int, float]] = {}
        self.absorptions: dict[int, list[tuple[int, float]]] = {}

    def grow(self) -> Planted:
        plan = self.plan
        for number, plant in (
            (plan.absorbed, self._absorption),
            (plan.hedged, self._hedge),
            (plan.splits, self._split),
            (plan.composed, self._composed),
            (plan.duplicates, self._duplicate),
        ):
            for _ in range(number):
                plant()
        for feature in self._unused():
            self._clean(feature)
        for _ in range(plan.dense):
            self._dense()
        for _ in range(plan.dead):
            row = self._noise() / len(self.bias) ** 0.5
            self._add(row, row, 1e6, Verdict.DEAD)
        encoder, decoder, threshold = (
            torch.stack([torch.as_tensor(row[at]) for row in self.rows]) for at in range(3)
        )
        for rows in (encoder, decoder):
            spread = plan.noise * rows.norm(dim=1, keepdim=True) / len(self.bias) ** 0.5
            rows += spread * torch.randn(rows.shape, generator=self.generator, dtype=rows.dtype)
        sae = SAE(
            encoder.float()[None],
            decoder.float()[None],
            b_dec=self.bias.float()[None],
            sparsifier=JumpReLU(threshold.float()[None]),
            subtract_b_dec=False,
        ).eval()
        return Planted(
            sae=sae,
            failures=self.failures,
            hedges=self.hedges,
            absorptions=self.absorptions,
        )

    # ------------------------------------------------------------------ one failure each

    def _clean(self, feature: int) -> int:
        self.used.add(feature)
        return self._add(self.readers[feature], self.features[feature], self._bar(feature))

    def _absorption(self) -> None:
        """A parent and its children, some of which carry it."""
        free = set(self._unused())
        parents = [
            p
            for p in sorted(free)
            if set(self._children_of(p)) and set(self._children_of(p)) <= free
        ]
        if not parents:
            return
        parent = self._one_of(parents)
        family = self._children_of(parent)
        taken = [c for c in family if self._uniform(0.0, 1.0) < 0.6] or [self._one_of(family)]
        reader, carriers = self.readers[parent].clone(), []
        for child in family:
            self.used.add(child)
            carried = 0.0
            if child in taken:
                delta = self._uniform(*self.plan.delta)
                carried = delta * float(self.size[parent] / self.size[child])
                reader -= self._uniform(1.0, 1.3) * carried * self.readers[child]
            row = self.features[child] + carried * self.features[parent]
            latent = self._add(self.readers[child], row, self._bar(child))
            if child in taken:
                self.failures.setdefault(latent, set()).add(Verdict.ABSORBING)
                carriers.append((latent, delta))
        self.used.add(parent)
        latent = self._add(reader, self.features[parent], self._bar(parent), Verdict.ABSORBED)
        self.absorptions[latent] = carriers

    def _hedge(self) -> None:
        """A latent that takes in a relative without a latent."""
        free = self._unused()
        part = self.lift * self.size[None] / self.size[:, None]
        pairs = [(i, j) for i in free for j in free if i != j and abs(float(part[i, j])) >= 0.12]
        if not pairs:
            return
        own, foreign = pairs[self._index(len(pairs))]
        h = float(part[own, foreign]) * self._uniform(1.0, 1.5)
        h = max(-0.9, min(0.9, h))
        self.used |= {own, foreign}
        latent = self._add(
            self.readers[own] + (0.5 * h if abs(h) <= 0.5 else 0.0) * self.readers[foreign],
            self.features[own] + h * self.features[foreign],
            self._bar(own),
            Verdict.HEDGED,
        )
        self.hedges[latent] = (foreign, h)
        mean = self.rate * self.size
        left = float(mean[foreign] - h * mean[own])
        # the encoder reads raw x, so b_dec does not disturb it
        self.bias += left * self.features[foreign]

    def _split(self) -> None:
        """Two latents of one feature: without another feature, and with it."""
        pair = self._strangers(least=0.12)
        if pair is None:
            return
        own, other = pair
        self.used.add(own)
        across = float(self.size[own] / self.size[other]) * self.readers[other]
        self._add(self.readers[own] - 3 * across, self.features[own], self._bar(own), Verdict.SPLIT)
        self._add(
            (self.readers[own] + across) / 2,
            self.features[own],
            0.75 * float(self.size[own]),
            Verdict.SPLIT,
        )

    def _composed(self) -> None:
        """A latent for two features together, at which their own latents stay silent."""
        pair = self._strangers(least=0.1)
        if pair is None:
            return
        one, other = pair
        self.used |= {one, other}
        ratio = float(self.size[one] / self.size[other])
        for own, against, scale in ((one, other, ratio), (other, one, 1 / ratio)):
            reader = self.readers[own] - 3 * scale * self.readers[against]
            self._add(reader, self.features[own], self._bar(own))
        self._add(
            (self.readers[one] + ratio * self.readers[other]) / 2,
            self.features[one] + self.features[other] / ratio,
            0.75 * float(self.size[one]),
            Verdict.COMPOSED,
        )

    def _duplicate(self) -> None:
        """Two latents of one feature that share its magnitude."""
        free = self._unused()
        if not free:
            return
        own = self._one_of(free)
        self.used.add(own)
        part = self._uniform(0.35, 0.65)
        for share in (part, 1 - part):
            tilted = self.features[own] + 0.08 * self._noise() / len(self.bias) ** 0.5
            reader = share * self.readers[own]
            self._add(reader, tilted, share * self._bar(own), Verdict.DUPLICATE)

    def _dense(self) -> None:
        """A latent that fires nearly always and stands for the mean."""
        mean = (self.rate * self.size) @ self.features
        self.bias -= 0.5 * mean
        reader = mean / (mean @ mean)
        self._add(0.5 * reader, 0.5 * mean, 0.02, Verdict.DENSE)

    # ------------------------------------------------------------------ choosing

    def _add(self, reader: Tensor, row: Tensor, bar: float, failure: Verdict | None = None) -> int:
        """One more latent; its number."""
        self.rows.append((reader.clone(), row.clone(), bar))
        latent = len(self.rows) - 1
        if failure is not None:
            self.failures.setdefault(latent, set()).add(failure)
        return latent

    def _bar(self, feature: int) -> float:
        return self.height * float(self.size[feature])

    def _unused(self) -> list[int]:
        return [i for i in range(len(self.features)) if i not in self.used]

    def _children_of(self, parent: int) -> list[int]:
        return self.family[parent].nonzero()[:, 0].tolist()

    def _strangers(self, least: float) -> tuple[int, int] | None:
        """Two unused features that fire often and have nothing to do with each other."""
        free = [i for i in self._unused() if self.rate[i] >= least and not self._related(i)]
        if len(free) < 2:
            return None
        first = free.pop(self._index(len(free)))
        return first, self._one_of(free)

    def _related(self, feature: int) -> bool:
        return bool(self.family[feature].any() or self.family[:, feature].any())

    def _index(self, n: int) -> int:
        return int(torch.randint(n, (), generator=self.generator))

    def _one_of(self, options: list[int]) -> int:
        return options[self._index(len(options))]

    def _uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def _noise(self) -> Float[Tensor, " d_in"]:
        return torch.randn(len(self.bias), generator=self.generator, dtype=torch.float64)
