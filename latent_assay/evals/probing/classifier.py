"""Logistic regression on few columns, and how well it does on samples it has not seen."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latent_assay.errors import ConfigError, DataError, require

PURPOSE = "fitting probes"

STRENGTHS: tuple[float, ...] = tuple(10.0 ** (5 - 10 * step / 9) for step in range(10))
"""Ten inverse strengths of regularisation, evenly spaced in the logarithm from 1e5 to 1e-5."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How well a probe does on test samples."""

    accuracy: float
    """Share of samples put into the right class."""
    auc: float
    """Area under the ROC curve."""
    f1: float
    """F1 of the positive class."""
    strength: float
    """The inverse regularisation that was used."""


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """How a probe is fitted."""

    strength: float | None = 1.0
    """Inverse strength of regularisation (sklearn's C); None chooses it by held-out AUC."""
    strengths: Sequence[float] = STRENGTHS
    """What None chooses from."""
    held_out: float = 0.2
    """Share of the training samples that chooses, if `folds` is 1."""
    folds: int = 1
    """Number of parts that choose in turn; 1 for a single one of the share `held_out`."""
    penalty: Literal["l1", "l2"] = "l2"
    """Which norm of the weights is penalised."""
    balanced: bool = False
    """Whether both classes weigh the same in the loss, however many samples each has."""
    max_iter: int = 1000
    """The most iterations of the solver."""

    def __post_init__(self) -> None:
        if self.strength is not None and not self.strength > 0:
            raise ConfigError(f"strength is {self.strength}; expected a positive number, or None.")
        if not 0 < self.held_out < 1:
            raise ConfigError(f"held_out is {self.held_out}; expected a share between 0 and 1.")
        if self.folds < 1:
            raise ConfigError(f"folds is {self.folds}; expected at least 1.")


def fit_and_score(
    train: Float[Tensor, "sample column"],
    train_labels: Bool[Tensor, " sample"],
    test: Float[Tensor, "test column"],
    test_labels: Bool[Tensor, " test"],
    config: ClassifierConfig,
    generator: torch.Generator,
) -> Scores:
    """Fit on training samples, score on test samples.

    Without a given strength, part of the training samples is held out; the strength with the
    highest AUC there (the first of equals) is used for a fit on all training samples. The test
    samples choose nothing.

    **Arguments:**
    - `train`, `train_labels`: what is fitted.
    - `test`, `test_labels`: what is scored.
    - `config`: how.
    - `generator`: deals out the samples that choose the strength.

    **Raises:** `DataError` if a held-out part lacks a class, `MissingExtra` without scikit-learn.
    """
    strength = config.strength
    if strength is None:
        parts = _parts(train_labels, config, generator)
        best = -1.0
        for each in config.strengths:
            total = 0.0
            for part in parts:
                model = _fitted(train[~part], train_labels[~part], each, config)
                total += auc(_decisions(model, train[part]), train_labels[part])
            if total > best:
                best, strength = total, each
    if strength is None:
        raise DataError(
            "no strength of regularisation could be chosen: a held-out part lacks a class. Give "
            "more training samples, or a strength."
        )
    decisions = _decisions(_fitted(train, train_labels, strength, config), test)
    says, is_so = decisions > 0, test_labels
    right = (says & is_so).sum().item()
    either = says.sum().item() + is_so.sum().item()
    return Scores(
        accuracy=(says == is_so).double().mean().item(),
        auc=auc(decisions, is_so),
        f1=2 * right / either if either else 0.0,
        strength=strength,
    )


def stratified(
    labels: Bool[Tensor, " sample"], share: float, generator: torch.Generator
) -> Bool[Tensor, " sample"]:
    """Choose a share of each class at random, at least one sample of each."""
    chosen = torch.zeros_like(labels)
    for value in (True, False):
        members = (labels == value).nonzero().squeeze(-1)
        if len(members):
            order = members[torch.randperm(len(members), generator=generator)]
            chosen[order[: max(1, round(share * len(members)))]] = True
    return chosen


def _parts(
    labels: Bool[Tensor, " sample"], config: ClassifierConfig, generator: torch.Generator
) -> list[Bool[Tensor, " sample"]]:
    """Held-out parts: one, or disjoint folds with the same share of both classes."""
    if config.folds == 1:
        return [stratified(labels, config.held_out, generator)]
    fold = torch.empty(len(labels), dtype=torch.int64)
    for value in (True, False):
        members = (labels == value).nonzero().squeeze(-1)
        order = members[torch.randperm(len(members), generator=generator)]
        fold[order] = torch.arange(len(order)) % config.folds
    return [fold == number for number in range(config.folds)]


def auc(decisions: Float[Tensor, " sample"], labels: Bool[Tensor, " sample"]) -> float:
    """Probability that a positive sample has the higher decision than a negative; ties count half.

    NaN if a class is missing.

    >>> auc(torch.tensor([0.1, 0.9, 0.5, 0.5]), torch.tensor([False, True, True, False]))
    0.875
    """
    n_positive = int(labels.sum())
    n_negative = len(labels) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    _, group, counts = decisions.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    rank = (last - (counts.double() - 1) / 2)[group]  # ties share their mean rank
    total = rank[labels].sum().item() - n_positive * (n_positive + 1) / 2
    return total / (n_positive * n_negative)


def _fitted(x: Tensor, labels: Tensor, strength: float, config: ClassifierConfig) -> Any:
    linear_model = require("sklearn.linear_model", extra="evals", purpose=PURPOSE)
    sklearn = require("sklearn", extra="evals", purpose=PURPOSE)
    options: dict[str, Any] = {"C": strength, "max_iter": config.max_iter}
    if config.balanced:
        options["class_weight"] = "balanced"
    if config.penalty == "l1":
        version = tuple(int(part) for part in sklearn.__version__.split(".")[:2])
        options |= {"solver": "saga", "random_state": 0}
        # the same thing under two names: `penalty` goes away as `l1_ratio` takes its place
        options |= {"l1_ratio": 1.0} if version >= (1, 8) else {"penalty": "l1"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a solver that stops early is still a probe
        return linear_model.LogisticRegression(**options).fit(x.numpy(), labels.numpy())


def _decisions(model: Any, x: Tensor) -> Float[Tensor, " sample"]:
    if len(model.classes_) < 2:
        return torch.full((len(x),), 1.0 if model.classes_[0] else -1.0, dtype=torch.float64)
    return torch.from_numpy(model.decision_function(x.numpy())).double()
