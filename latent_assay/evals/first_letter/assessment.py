"""Everything that is measured about concepts, for one SAE and one seed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latent_assay.errors import ConfigError
from latent_assay.evals.first_letter.absorption import (
    AbsorptionThresholds,
    RepairedAbsorption,
    published_absorption,
    repaired_absorption,
)
from latent_assay.evals.first_letter.concepts import Concepts
from latent_assay.evals.first_letter.hedging import hedging_share
from latent_assay.evals.first_letter.k_sparse import Choice, k_sparse
from latent_assay.evals.first_letter.linear import (
    L1_PROBE,
    LinearConfig,
    LinearProbe,
    train_probe,
)
from latent_assay.evals.representations import encode
from latent_assay.sae import SAE


@dataclass(frozen=True, kw_only=True)
class FirstLetterConfig:
    """How first letters are probed; the defaults are those of SAEBench where it has them."""

    seeds: Sequence[int] = (0, 1, 2)
    """Each decides words, prompts, parts and probes anew."""
    ks: Sequence[int] = (1, 2, 5, 10)
    """Numbers of latents whose F1 is reported."""
    max_k: int = 10
    """The most latents that a concept may be split into."""
    jump: float = 0.03
    """By how much a further latent must raise F1 to count as one of the main ones."""
    min_probe_f1: float = 0.6
    """Concepts that the model itself does not have, by the dense probe's F1, are left out."""
    min_concepts: int = 3
    """With fewer concepts than this, nothing is reported. SAEBench asks for 20 of 26 letters."""
    min_train: int = 20
    """Training samples that a concept needs, and a quarter of that for testing."""
    probe: LinearConfig = field(default_factory=LinearConfig)
    """How the dense probe is trained."""
    choice: Choice = "difference"
    """How latents are chosen for a concept; SAEBench's way is "l1 probe"."""
    l1_probe: LinearConfig = L1_PROBE
    """How the probe that chooses latents is trained, for that choice."""
    thresholds: AbsorptionThresholds = field(default_factory=AbsorptionThresholds)
    """What counts as absorption."""

    def __post_init__(self) -> None:
        if not self.seeds or not self.ks or min(self.ks) < 1 or self.max_k < 1:
            raise ConfigError(
                f"seeds {list(self.seeds)}, ks {list(self.ks)}, max_k {self.max_k}: expected at "
                "least one of each, and numbers of latents from 1 up."
            )
        if self.min_concepts < 1 or self.min_train < 8:
            raise ConfigError(
                f"min_concepts is {self.min_concepts} and min_train {self.min_train}; expected at "
                "least 1 and 8."
            )

    def content(self) -> dict[str, Any]:
        """The settings, in what JSON has."""
        return {
            name: list(each) if isinstance(each, tuple) else each
            for name, each in asdict(self).items()
        }


PUBLISHED = FirstLetterConfig(
    choice="l1 probe", l1_probe=LinearConfig(batch_size=4096, weight_decay=1e-6, l1=0.01),
    min_concepts=20,
)  # fmt: skip
"""SAEBench's settings throughout, for all words of a large model's vocabulary (`max_words=None`);
numbers of its own are under the keys that end in `_published`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Probed:
    """Concepts that the model has, by a dense probe, with scaled activations."""

    data: Concepts
    """The concepts, activations divided by their root mean square."""
    probe: LinearProbe
    """The dense probe."""
    found: Bool[Tensor, "sample concept"]
    """Where the probe is positive."""
    f1: Float[Tensor, " concept"]
    """The probe's F1 on test samples."""
    scale: float
    """The root mean square by which activations were divided."""


def probed(data: Concepts, config: FirstLetterConfig, seed: int) -> Probed:
    """Train the dense probe and keep the concepts that it finds.

    Activations are divided by one number, their root mean square, so that learning rates and
    penalties mean the same for every model.
    """
    data = data.with_support(config.min_train)
    scale = float(data.x.double().square().mean().sqrt()) or 1.0
    x = data.x / scale
    train = ~data.test
    generator = torch.Generator().manual_seed(seed)
    probe = train_probe(x[train], data.labels[train], config.probe, generator)
    says = probe(x) > 0
    right = (says & data.labels)[data.test].sum(0)
    either = says[data.test].sum(0) + data.labels[data.test].sum(0)
    f1 = 2 * right / either.clamp_min(1)
    kept = f1 > config.min_probe_f1
    left_out = dict(data.left_out or {})
    for name, each, keep in zip(data.names, f1.tolist(), kept.tolist(), strict=True):
        if not keep:
            left_out[name] = f"the dense probe's F1 is {each:.2f}"
    return Probed(
        data=Concepts(
            x=x,
            labels=data.labels[:, kept],
            names=[name for name, keep in zip(data.names, kept.tolist(), strict=True) if keep],
            test=data.test,
            samples=data.samples,
            left_out=left_out,
        ),
        probe=LinearProbe(weight=probe.weight[kept], bias=probe.bias[kept]),
        found=says[:, kept],
        f1=f1[kept],
        scale=scale,
    )


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What one SAE makes of the concepts, by metric and concept; None where not measurable."""

    by_concept: Mapping[str, Mapping[str, float | None]]
    """Metric to concept to number."""
    main: Mapping[str, list[int]]
    """The main latents of each concept."""
    absorbers: Mapping[str, list[int]]
    """Possible absorbers that fired in test samples, the most frequent first."""
    reasons: Mapping[str, str]
    """Concepts whose repaired absorption is not measurable, and why."""

    def means(self) -> dict[str, float]:
        """Mean over the concepts for which a metric is measurable; metrics of none are left out."""
        found = {}
        for metric, scores in self.by_concept.items():
            known = [each for each in scores.values() if each is not None]
            if known:
                found[metric] = sum(known) / len(known)
        return found


def assess(sae: SAE, task: Probed, config: FirstLetterConfig, seed: int) -> Assessment:
    """Probe, count main latents, and measure absorption and hedging.

    **Arguments:**
    - `sae`: one member, in exported form; it reads raw activations.
    - `task`: concepts with their dense probe.
    - `config`: how.
    - `seed`: of a probe that chooses latents.
    """
    data = task.data
    with torch.no_grad():
        lengths = sae.W_dec[0].detach().float().cpu().norm(dim=-1)
        # as if decoder rows had length one, which the published formula takes for granted
        W_dec = sae.W_dec[0].detach().float().cpu() / lengths.clamp_min(1e-30)[:, None]
        z = encode(sae, data.x * task.scale) * lengths / task.scale
    generator = torch.Generator().manual_seed(seed + 1)
    probes = k_sparse(
        z,
        data,
        generator,
        max_k=config.max_k,
        choice=config.choice,
        config=config.l1_probe,
    )
    mains = probes.main(config.jump)
    by_concept: dict[str, dict[str, float | None]] = {}
    absorbers: dict[str, list[int]] = {}
    reasons: dict[str, str] = {}

    for number, name in enumerate(data.names):
        labels, found, main = data.labels[:, number], task.found[:, number], mains[number]
        direction = task.probe.weight[number]
        row: dict[str, float | None] = {
            f"f1@{k}": float(probes.f1[number, k - 1]) for k in config.ks if k <= probes.f1.shape[1]
        }
        row["main_latents"] = float(len(main))
        row |= _detection(z, main, labels, found, data.test)
        positive = labels & found & data.test
        if positive.any():
            published = published_absorption(
                data.x[positive], z[positive], W_dec, direction, main, config.thresholds
            )
            row["absorption_fraction_published"] = float(published.fraction.mean())
            row["full_absorption_published"] = float(published.full.double().mean())
        repaired = repaired_absorption(
            data.x,
            z,
            W_dec,
            direction,
            main,
            labels=labels,
            found=found,
            scored=data.test,
            thresholds=config.thresholds,
        )
        if isinstance(repaired, RepairedAbsorption):
            row["absorption_fraction"], row["full_absorption"] = repaired.fraction, repaired.full
            absorbers[name] = list(repaired.absorbers)
        else:
            row["absorption_fraction"] = row["full_absorption"] = None
            reasons[name] = repaired
        row["hedging"] = hedging_share(W_dec[main[0]], direction, data.x, labels)
        for metric, each in row.items():
            by_concept.setdefault(metric, {})[name] = each
    return Assessment(
        by_concept=by_concept,
        main=dict(zip(data.names, mains, strict=True)),
        absorbers=absorbers,
        reasons=reasons,
    )


def _detection(
    z: Tensor, main: list[int], labels: Tensor, found: Tensor, test: Tensor
) -> dict[str, float | None]:
    """What the firing of any main latent, without any probe, says about the concept."""
    fires = (z[:, main] > 0).any(-1) & test
    right = int((fires & labels).sum())
    either = int(fires.sum()) + int((labels & test).sum())
    present = labels & found & test
    n = int(present.sum())
    return {
        "f1_firing": 2 * right / either if either else 0.0,
        "recall_firing": int((fires & present).sum()) / n if n else None,
    }
