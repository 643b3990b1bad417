"""The k-sparse probing of labelled samples: pure tensors in, scores per seed out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from latent_assay.errors import ConfigError, DataError, ShapeError
from latent_assay.evals.probing.classifier import (
    ClassifierConfig,
    fit_and_score,
    stratified,
)
from latent_assay.evals.probing.ranking import Rule, ranked, unit

SCORES = ("accuracy", "auc", "f1")


@dataclass(frozen=True, kw_only=True)
class ProbingConfig:
    """How labelled samples are probed."""

    ks: Sequence[int] = (1, 2, 5, 10)
    """Numbers of latents that a probe may use."""
    seeds: Sequence[int] = (0, 1, 2)
    """Each draws training and test samples anew."""
    rules: Sequence[Rule] = ("standardised", "raw")
    """How latents are chosen. Keys of the raw rule end in `_raw` where it is not the only one."""
    test_share: float = 0.2
    """Share of samples that scores."""
    n_train: int | None = None
    """The most training samples of a task; None for all."""
    n_test: int | None = None
    """The most test samples of a task; None for all."""
    equal_classes: bool = True
    """Whether only as many negatives are taken as there are positives, or all."""
    min_positives: int = 10
    """A task with fewer positive (or negative) samples is left out."""
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    """How each probe is fitted."""

    def __post_init__(self) -> None:
        if not self.ks or min(self.ks) < 1:
            raise ConfigError(f"ks is {list(self.ks)}; expected one or more numbers from 1 up.")
        if not self.seeds or not self.rules:
            raise ConfigError("`seeds` and `rules` must name at least one each.")
        if not 0 < self.test_share < 1:
            raise ConfigError(f"test_share is {self.test_share}; expected between 0 and 1.")
        if self.min_positives < 5:
            raise ConfigError(
                f"min_positives is {self.min_positives}; expected at least 5, or there may be none "
                "to test with."
            )

    def key(self, score: str, rule: Rule, k: int) -> str:
        """The metric's key: `accuracy@5`, or `accuracy_raw@5` for the second rule."""
        return f"{score}{'_raw' if rule != self.rules[0] else ''}@{k}"

    def content(self) -> dict[str, Any]:
        """The settings, in what JSON has."""
        return {
            name: list(each) if isinstance(each, tuple) else each
            for name, each in asdict(self).items()
        }


@dataclass(frozen=True, kw_only=True)
class Probed:
    """Scores of every representation, one per seed."""

    values: Mapping[str, Mapping[str, list[float]]]
    """By the representation's name and the metric's key, one number per seed: mean over tasks."""
    by_task: Mapping[str, Mapping[str, float]]
    """Of the first representation: by task and key, mean over seeds."""
    chosen: Mapping[str, list[int]]
    """Of the first representation and seed: the latents in order of rank, as many as the largest
    k."""
    left_out: Mapping[str, str]
    """Tasks that could not be probed, and why."""


def probe(
    representations: Mapping[str, Float[Tensor, "sample latent"] | Sequence[Tensor]],
    labels: Bool[Tensor, "sample task"],
    tasks: Sequence[str],
    config: ProbingConfig,
    *,
    dense: Float[Tensor, "sample d_in"] | None = None,
    groups: Int[Tensor, " sample"] | None = None,
) -> Probed:
    """Probe each task with the k best latents of each representation.

    Every representation sees the same samples. As a null, the first is also probed with training
    labels dealt out at random (`shuffled labels`), which shows what choosing the best of many
    latents gains by itself.

    **Arguments:**
    - `representations`: latent activations by name; a sequence gives one per seed.
    - `labels`: which samples are positive in which task.
    - `tasks`: the tasks' names.
    - `config`: how.
    - `dense`: if given, a probe on all its columns, standardised, stands beside the sparse ones as
      `dense probe`, under keys without a setting.
    - `groups`: samples of one group (a document, a word) are never on both sides of the split.

    **Raises:** `ShapeError` if the parts do not belong together, `DataError` if no task can be
    probed or an activation is not finite, `MissingExtra` without scikit-learn.
    """
    n, n_tasks = labels.shape
    if len(tasks) != n_tasks:
        raise ShapeError(f"labels have {n_tasks} columns, but {len(tasks)} tasks are named.")
    per_seed = {
        name: [each] * len(config.seeds) if isinstance(each, Tensor) else list(each)
        for name, each in representations.items()
    }
    _check(per_seed, n, config)
    first = next(iter(per_seed))
    values: dict[str, dict[str, list[float]]] = {}
    task_values: dict[str, dict[str, list[float]]] = {}
    chosen: dict[str, list[int]] = {}
    left_out: dict[str, str] = {}
    for number, seed in enumerate(config.seeds):
        totals: dict[str, dict[str, list[float]]] = {}
        for column, task in enumerate(tasks):
            generator = torch.Generator().manual_seed(1_000_003 * seed + column)
            split = divide(labels[:, column], config, generator, groups)
            if isinstance(split, str):
                left_out.setdefault(task, split)
                continue
            train, test = split
            y = labels[:, column]
            shuffled = y.clone()
            shuffled[train] = y[train][torch.randperm(len(train), generator=generator)]
            sources = [(name, each[number], y) for name, each in per_seed.items()]
            sources.append(("shuffled labels", per_seed[first][number], shuffled))
            for name, z, fitted_to in sources:
                scores, order = _sparse(z, fitted_to, y, train, test, config, generator)
                _append(totals, name, scores)
                if name == first:
                    _append(task_values, task, scores)
                    chosen.setdefault(task, order)
            if dense is not None:
                _append(totals, "dense probe", _dense(dense, y, train, test, config, generator))
        for name, scores_by_key in totals.items():
            means = {key: sum(each) / len(each) for key, each in scores_by_key.items()}
            _append(values, name, means)
    if not values:
        reasons = "; ".join(f"{task}: {reason}" for task, reason in list(left_out.items())[:3])
        raise DataError(f"no task can be probed ({reasons}). Give more labelled samples.")
    # a task must count in every seed or in none
    kept = {task: each for task, each in task_values.items() if task not in left_out}
    if len(kept) < len(task_values):
        remaining = [column for column, task in enumerate(tasks) if task in kept]
        if not remaining:
            raise DataError("no task can be probed with every seed. Give more labelled samples.")
        again = probe(
            representations,
            labels[:, remaining],
            [tasks[column] for column in remaining],
            config,
            dense=dense,
            groups=groups,
        )
        return Probed(
            values=again.values,
            by_task=again.by_task,
            chosen=again.chosen,
            left_out=left_out | dict(again.left_out),
        )
    return Probed(
        values=values,
        by_task={
            task: {key: sum(each) / len(each) for key, each in scores.items()}
            for task, scores in kept.items()
        },
        chosen=chosen,
        left_out=left_out,
    )


def divide(
    labels: Bool[Tensor, " sample"],
    config: ProbingConfig,
    generator: torch.Generator,
    groups: Int[Tensor, " sample"] | None = None,
) -> tuple[Int[Tensor, " train"], Int[Tensor, " test"]] | str:
    """Training and test samples of one task, or the reason why there are too few.

    Without groups each class is divided on its own; with groups, whole groups go to one side.
    """
    n_positive, n_negative = int(labels.sum()), int((~labels).sum())
    if min(n_positive, n_negative) == 0:
        return "the label is constant"
    if min(n_positive, n_negative) < config.min_positives:
        fewer = "positive" if n_positive <= n_negative else "negative"
        return (
            f"only {min(n_positive, n_negative)} {fewer} samples; expected at least "
            f"{config.min_positives}"
        )
    if groups is None:
        is_test = stratified(labels, config.test_share, generator)
    else:
        names = groups.unique()
        order = names[torch.randperm(len(names), generator=generator)]
        is_test = torch.isin(groups, order[: max(1, round(config.test_share * len(names)))])
    sides = []
    for side, limit in ((~is_test, config.n_train), (is_test, config.n_test)):
        positive = _shuffled(side & labels, generator)
        negative = _shuffled(side & ~labels, generator)
        if config.equal_classes:
            count = min(len(positive), len(negative))
            positive, negative = positive[:count], negative[:count]
        if limit is not None and len(positive) + len(negative) > limit:
            share = limit / (len(positive) + len(negative))
            positive = positive[: max(1, round(share * len(positive)))]
            negative = negative[: max(1, limit - len(positive))]
        if min(len(positive), len(negative)) < 2:
            return "too few samples of a class on one side of the split"
        both = torch.cat([positive, negative])
        sides.append(both[torch.randperm(len(both), generator=generator)])
    return sides[0], sides[1]


def _sparse(
    z: Tensor,
    fitted_to: Tensor,
    labels: Tensor,
    train: Tensor,
    test: Tensor,
    config: ProbingConfig,
    generator: torch.Generator,
) -> tuple[dict[str, float], list[int]]:
    seen = z[train]
    scores: dict[str, float] = {}
    best: list[int] = []
    for rule in config.rules:
        order = ranked(seen, fitted_to[train], rule)
        best = best or order[: max(config.ks)].tolist()
        for k in config.ks:
            if k > z.shape[1]:
                continue
            columns = order[:k]
            x, x_test = seen[:, columns], z[test][:, columns]
            if rule == "standardised":
                mean, scale = x.mean(0), unit(x, rule)
                x, x_test = (x - mean) / scale, (x_test - mean) / scale
            found = fit_and_score(
                x, fitted_to[train], x_test, labels[test], config.classifier, generator
            )
            for score in SCORES:
                scores[config.key(score, rule, k)] = getattr(found, score)
    return scores, best


def _dense(
    x: Tensor,
    labels: Tensor,
    train: Tensor,
    test: Tensor,
    config: ProbingConfig,
    generator: torch.Generator,
) -> dict[str, float]:
    seen = x[train]
    mean, scale = seen.mean(0), unit(seen, "standardised")
    # strong columns of a wide probe need regularising, which samples held out can choose
    options = ClassifierConfig(
        strength=None,
        strengths=(1.0, 1e-2, 1e-4),
        held_out=config.classifier.held_out,
        balanced=config.classifier.balanced,
    )
    found = fit_and_score(
        (seen - mean) / scale,
        labels[train],
        (x[test] - mean) / scale,
        labels[test],
        options,
        generator,
    )
    return {score: getattr(found, score) for score in SCORES}


def _append(
    into: dict[str, dict[str, list[float]]], name: str, scores: Mapping[str, float]
) -> None:
    for key, each in scores.items():
        into.setdefault(name, {}).setdefault(key, []).append(each)


def _shuffled(mask: Tensor, generator: torch.Generator) -> Tensor:
    members = mask.nonzero().squeeze(-1)
    return members[torch.randperm(len(members), generator=generator)]


def _check(per_seed: Mapping[str, list[Tensor]], n: int, config: ProbingConfig) -> None:
    if not per_seed:
        raise ConfigError("there is nothing to probe: give at least one representation.")
    for name, each in per_seed.items():
        if len(each) != len(config.seeds):
            raise ShapeError(
                f"`{name}` comes {len(each)} times; expected once, or once for each of "
                f"{len(config.seeds)} seeds."
            )
        for z in each:
            if z.dim() != 2 or len(z) != n:
                raise ShapeError(
                    f"`{name}` has shape {list(z.shape)}; expected [{n}, latent], a row for each "
                    "label."
                )
            if not torch.isfinite(z).all():
                raise DataError(f"`{name}` holds numbers that are not finite. Check the SAE.")
    first = next(iter(per_seed))
    if min(config.ks) > per_seed[first][0].shape[1]:
        raise ConfigError(
            f"ks is {list(config.ks)}, but `{first}` has {per_seed[first][0].shape[1]} latents. "
            "Choose smaller numbers."
        )
