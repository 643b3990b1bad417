"""Every evaluation by name: its version, its metrics, which direction of each is better.

A metric may come in several settings, such as the number of latents that a probe may use; a key is
then the metric's name, `@`, and the setting: `accuracy@5`. When the definition of an evaluation
changes in any way that changes a number, its `version` goes up.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from latent_assay.errors import ConfigError, did_you_mean
from latent_assay.metrics.registry import METRICS, Direction, Metric


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What an evaluation is called and what it yields."""

    name: str
    """The word for it in results, files and on the command line."""
    title: str
    """The same for readers."""
    metrics: Mapping[str, Metric]
    """Its metrics by name."""
    headline: str | None
    """Key of the number that stands for it in an overview; None if no number of it may."""
    caveat: str = ""
    """What a reader must know before trusting it; empty if nothing is known against it."""
    version: int = 1
    """Raised whenever a number changes its meaning."""

    def metric(self, key: str) -> Metric:
        """The metric behind a key, with or without a setting.

        **Raises:** `ConfigError` if this evaluation has no such metric.

        >>> evaluation("sparse_probing").metric("accuracy@5").direction
        'higher'
        """
        name = key.partition("@")[0]
        if name not in self.metrics:
            raise ConfigError(
                f"the evaluation `{self.name}` has no metric `{name}`; expected one of "
                f"{', '.join(self.metrics)}.{did_you_mean(name, self.metrics)}"
            )
        return self.metrics[name]


def _metrics(*rows: tuple[str, Direction, str] | Metric) -> Mapping[str, Metric]:
    metrics = [
        row
        if isinstance(row, Metric)
        else Metric(name=row[0], direction=row[1], unit="1", definition=row[2])
        for row in rows
    ]
    return MappingProxyType({metric.name: metric for metric in metrics})


def _probing(of: str) -> list[tuple[str, Direction, str]]:
    """Metrics of k-sparse probes, chosen by the normalised and by the published rule."""
    return [
        (
            f"{score}{rule}",
            "higher",
            f"{meaning} on held-out {of}, mean over tasks, of logistic regression on the k latents "
            f"{choice}",
        )
        for rule, choice in (
            ("", "with the largest difference of class means in units of their own spread."),
            ("_raw", "with the largest difference of class means, as published."),
        )
        for score, meaning in (
            ("accuracy", "Accuracy"),
            ("auc", "Area under the ROC curve"),
            ("f1", "F1"),
        )
    ]


def _consistency() -> list[tuple[str, Direction, str]]:
    """Shares of the modal class, by both choices of a latent's samples."""
    return [
        row
        for choice, samples in (
            ("top", "the samples on which it fires most strongly"),
            ("all", "all samples on which it fires"),
        )
        for row in (
            (
                f"{choice}_activated",
                "higher",
                f"Share of a latent's most frequent class among {samples}, mean over active "
                "latents.",
            ),
            (
                f"{choice}_corrected",
                "higher",
                "The same corrected for chance, latent by latent: 0 for permuted labels, 1 for "
                "one class alone.",
            ),
        )
    ]


EVALUATIONS: Mapping[str, Evaluation] = MappingProxyType(
    {
        each.name: each
        for each in [
            Evaluation(
                name="core",
                title="Core metrics",
                headline="explained_variance",
                metrics=_metrics(
                    *(
                        METRICS[name]
                        for name in (
                            "explained_variance",
                            "fvu",
                            "mse",
                            "cosine",
                            "shrinkage",
                            "relative_reconstruction_bias",
                            "l0",
                            "l1",
                            "frac_alive",
                        )
                    ),
                    (
                        "loss_recovered",
                        "higher",
                        "Share of the cross-entropy lost by zero ablation that reconstructions "
                        "recover.",
                    ),
                    (
                        "kl_recovered",
                        "higher",
                        "1 minus the KL divergence of the spliced model over that of the "
                        "zero-ablated one.",
                    ),
                ),
            ),
            Evaluation(
                name="sparse_probing",
                title="Sparse probing",
                headline="auc@1",
                metrics=_metrics(*_probing("texts")),
            ),
            Evaluation(
                name="sae_probes",
                title="SAE-Probes",
                headline="auc@1",
                metrics=_metrics(*_probing("prompts")),
                caveat="It saturates: SAEs of very different quality come close to 1 at larger k.",
            ),
            Evaluation(
                name="first_letter",
                title="First letters",
                headline="f1@1",
                metrics=_metrics(
                    (
                        "f1",
                        "higher",
                        "F1 on held-out words, mean over letters, of logistic regression on the "
                        "k latents that stand for the letter.",
                    ),
                ),
            ),
            Evaluation(
                name="feature_splitting",
                title="Feature splitting",
                headline=None,
                caveat="An SAE without any latent for a letter is not split either; read beside "
                "the F1 of first letters.",
                metrics=_metrics(
                    (
                        "main_latents",
                        "lower",
                        "Mean over letters of the number of latents that each raise F1 by more "
                        "than the threshold; 1 is no splitting.",
                    ),
                ),
            ),
            Evaluation(
                name="absorption",
                title="Absorption",
                headline="f1_firing",
                caveat="Absorption alone does not rank: an SAE that has learned nothing absorbs "
                "nothing. The headline is the F1 of the main latents' firing, which absorption "
                "lowers, and so does not having learned the letter.",
                metrics=_metrics(
                    (
                        "f1_firing",
                        "higher",
                        "F1, mean over letters, of 'a main latent fires' as a detector of the "
                        "letter on held-out words.",
                    ),
                    (
                        "recall_firing",
                        "higher",
                        "Share of held-out words whose letter the dense probe finds on which a "
                        "main latent fires.",
                    ),
                    (
                        "absorption_fraction",
                        "lower",
                        "Share of the letter that is missing from its main latents and carried by "
                        "absorbers, beyond what is missing without one.",
                    ),
                    (
                        "full_absorption",
                        "lower",
                        "Share of words on which the main latents are silent and one absorber "
                        "carries the letter, beyond chance.",
                    ),
                    (
                        "absorption_fraction_published",
                        "lower",
                        "Absorption fraction by SAEBench's formula, which superposed neighbours "
                        "raise.",
                    ),
                    (
                        "full_absorption_published",
                        "lower",
                        "Full absorption by SAEBench's formula.",
                    ),
                    (
                        "hedging",
                        "lower",
                        "Share of the first main latent's decoder along the variation among words "
                        "of its letter, beyond that of other letters.",
                    ),
                ),
            ),
            Evaluation(
                name="parts_of_speech",
                title="Parts of speech",
                headline="auc@1",
                metrics=_metrics(*_probing("tokens")),
            ),
            Evaluation(
                name="autointerp",
                title="Auto-interpretation",
                headline="detection",
                metrics=_metrics(
                    (
                        "detection",
                        "higher",
                        "Balanced accuracy of telling active from inactive contexts by a latent's "
                        "explanation, corrected for chance: 0 for a judge that cannot, 1 for one "
                        "that always can.",
                    ),
                    (
                        "detection_auc",
                        "higher",
                        "The same by the area under the ROC curve, 2 AUC - 1; for judges that "
                        "give degrees.",
                    ),
                    (
                        "fuzzing",
                        "higher",
                        "Balanced accuracy of telling rightly from wrongly marked tokens by a "
                        "latent's explanation, corrected for chance.",
                    ),
                    ("fuzzing_auc", "higher", "The same by 2 AUC - 1."),
                    (
                        "unreadable",
                        "lower",
                        "Share of contexts on which the judge's answer could not be read; they "
                        "count as 'no'.",
                    ),
                ),
            ),
            Evaluation(
                name="scr",
                title="Spurious correlation removal",
                headline=None,
                caveat=(
                    "Unreliable: in worlds with known truth it ranked perfect SAEs below trained "
                    "ones. Never rank SAEs by it."
                ),
                metrics=_metrics(
                    (
                        "scr",
                        "higher",
                        "Share of a probe's spurious bias that zeroing N latents removes.",
                    ),
                    ("scr_first", "higher", "The same with the second concept removed."),
                    ("scr_second", "higher", "The same with the first concept removed."),
                ),
            ),
            Evaluation(
                name="tpp",
                title="Targeted probe perturbation",
                headline=None,
                caveat=(
                    "Unreliable: reseeded SAEs of one kind spread by a quarter of its value, and "
                    "it does not follow known truth. Never rank SAEs by it."
                ),
                metrics=_metrics(
                    (
                        "tpp",
                        "higher",
                        "Accuracy lost on a class whose N latents are zeroed, less that lost on "
                        "the other classes.",
                    ),
                    ("intended", "higher", "Accuracy lost on the class itself."),
                    ("unintended", "lower", "Accuracy lost on the other classes."),
                ),
            ),
            Evaluation(
                name="semantic_consistency",
                title="Semantic consistency",
                headline="top_corrected",
                metrics=_metrics(*_consistency()),
            ),
        ]
    }
)
"""All evaluations by name, in the order in which tables show them."""


def evaluation(name: str) -> Evaluation:
    """The evaluation of a name.

    **Raises:** `ConfigError` if there is none, naming the nearest.
    """
    if name not in EVALUATIONS:
        raise ConfigError(
            f"there is no evaluation `{name}`; expected one of {', '.join(EVALUATIONS)}."
            f"{did_you_mean(name, EVALUATIONS)}"
        )
    return EVALUATIONS[name]


def ordered(names: Iterable[str]) -> list[str]:
    """Names in the order of the catalogue.

    **Raises:** `ConfigError` for a name that is not in it.
    """
    return sorted(names, key=lambda name: list(EVALUATIONS).index(evaluation(name).name))
