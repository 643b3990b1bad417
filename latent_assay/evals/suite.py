"""All evaluations of several SAEs, one after another: what cannot be measured stops nothing.

Each result is written as soon as it is there, so that an interrupted suite goes on where it was.
"""

import hashlib
import json
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from latent_assay.activations.language_model import LanguageModel
from latent_assay.activations.loading import bundled_minilm
from latent_assay.activations.text import TextInput, text_source
from latent_assay.atomic import write_json
from latent_assay.errors import AssayError, ConfigError, EndpointError, did_you_mean
from latent_assay.evals.autointerp import (
    AutoInterpConfig,
    EmbeddingJudge,
    Explainer,
    Judge,
    WindowedText,
    autointerp,
    windowed,
)
from latent_assay.evals.catalogue import EVALUATIONS, evaluation
from latent_assay.evals.first_letter import (
    Concepts,
    FirstLetterConfig,
    first_letter,
    spelled_words,
)
from latent_assay.evals.perturbation import PerturbationConfig
from latent_assay.evals.probing import ProbingConfig, sparse_probing
from latent_assay.evals.removal import spurious_correlation_removal, targeted_probe_perturbation
from latent_assay.evals.result import EvalResult, not_measurable, pooled
from latent_assay.evals.storing import result_from_json, result_json
from latent_assay.evals.texts import LabelledTexts
from latent_assay.sae import SAE

MOST_MEMBERS = 3


@dataclass(frozen=True, kw_only=True)
class SuiteConfig:
    """What the evaluations read, and how much."""

    tokens: int = 50_000
    """Tokens of text for auto-interpretation and the core metrics."""
    context_size: int = 128
    """Tokens that the model reads at once; less for a model that cannot read so many."""
    max_norm: float | None = None
    """Longer activations are left out; see `loss_recovered`."""
    members: int = MOST_MEMBERS
    """How many members of an ensemble are evaluated; their spread is then the spread."""
    probing: ProbingConfig = field(default_factory=ProbingConfig)
    """Sparse probing and parts of speech."""
    first_letter: FirstLetterConfig = field(default_factory=FirstLetterConfig)
    """First letters, feature splitting and absorption."""
    max_words: int = 2_000
    """Words whose first letters are asked for."""
    perturbation: PerturbationConfig = field(default_factory=PerturbationConfig)
    """SCR and TPP."""
    perturbation_seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of SCR and TPP."""
    autointerp: AutoInterpConfig = field(default_factory=AutoInterpConfig)
    """Auto-interpretation."""


class Suite:
    """A model, texts and settings, with which any number of SAEs can be evaluated.

    **Arguments:**
    - `model`, `hook_point`: where the SAEs read.
    - `text`: anything `text_source` takes.
    - `labelled`: labelled texts for probing and TPP; None for Python's documentation.
    - `judge`: who judges explanations; None for embeddings of all-MiniLM-L6-v2.
    - `explainer`: who explains; None for the contexts themselves.
    - `config`: how much of everything.
    """

    def __init__(
        self,
        model: LanguageModel,
        hook_point: str,
        *,
        text: TextInput = "cpython",
        labelled: LabelledTexts | None = None,
        judge: Judge | None = None,
        explainer: Explainer | None = None,
        config: SuiteConfig | None = None,
    ) -> None:
        model.site(hook_point)  # refuses an unknown one before anything is computed
        self.model = model
        self.hook_point = hook_point
        self.text = text_source(text)
        self.labelled = labelled
        self.explainer = explainer
        self.config = config or SuiteConfig()
        self.context_size = min(
            self.config.context_size, model.max_context_size or self.config.context_size
        )
        self._judge = judge

    @cached_property
    def judge(self) -> Judge:
        """Who judges explanations."""
        if self._judge is not None:
            return self._judge
        return EmbeddingJudge.of(LanguageModel.load(bundled_minilm()))

    @cached_property
    def windows(self) -> WindowedText:
        """Text with its activations, read once for all SAEs."""
        return windowed(
            self.model,
            self.text,
            self.hook_point,
            n_tokens=self.config.tokens,
            context_size=self.context_size,
            max_norm=self.config.max_norm,
        )

    @cached_property
    def words(self) -> tuple[Concepts, ...]:
        """Words and their first letters for each seed, read once for all SAEs."""
        return tuple(
            spelled_words(self.model, self.hook_point, seed=seed, max_words=self.config.max_words)
            for seed in self.config.first_letter.seeds
        )

    def settings(self) -> dict[str, Any]:
        """Everything but the SAE that results depend on, as text."""
        labelled = self.labelled
        return {
            "model": self.model.fingerprint,
            "hook_point": self.hook_point,
            "text": self.text.describe(),
            "labelled": None if labelled is None else [labelled.name, _hash(labelled.texts)],
            "judge": getattr(self._judge, "name", "default"),
            "explainer": getattr(self.explainer, "name", "default"),
            "config": repr(self.config),
        }

    def run(
        self,
        saes: Mapping[str, SAE],
        *,
        only: Sequence[str] = (),
        folder: Path | None = None,
        advance: Callable[[str, str], object] | None = None,
    ) -> dict[str, dict[str, EvalResult]]:
        """Evaluate several SAEs.

        Members of an ensemble are evaluated one by one, and their results pooled: the spread is
        then that over training seeds. An evaluation that cannot be measured says why; one that
        fails says that it failed, and is tried again by the next call.

        **Arguments:**
        - `saes`: by name, for raw activations at the hook point.
        - `only`: names of evaluations; all if empty.
        - `folder`: where each result is kept as soon as it is there; results that lie there
          already, of the same SAE, settings and version, are not measured again.
        - `advance`: called with the names of SAE and evaluation before each.

        **Returns:** for each SAE a result for each evaluation, in the catalogue's order.

        **Raises:** `ConfigError` for an unknown evaluation; `StorageError` if a result cannot be
        written.
        """
        groups = _groups(only)
        wanted = set(only) or {name for group in groups for name in group.gives}
        return {
            name: self._of_one(name, sae, groups, wanted, folder, advance)
            for name, sae in saes.items()
        }

    def _of_one(
        self,
        name: str,
        sae: SAE,
        groups: Sequence["Group"],
        wanted: set[str],
        folder: Path | None,
        advance: Callable[[str, str], object] | None,
    ) -> dict[str, EvalResult]:
        members = sae.take(list(range(min(sae.members, self.config.members)))).unstack()
        found: dict[str, EvalResult] = {}
        for group in groups:
            if advance is not None:
                advance(name, group.name)
            several = []
            for number, member in enumerate(members):
                place = None
                if folder is not None:
                    ending = f"-{number}" if len(members) > 1 else ""
                    place = folder / _file_name(name) / f"{group.name}{ending}.json"
                several.append(self._kept(group, member, place))
            for each in group.gives:
                if each in wanted:
                    found[each] = (
                        pooled([r[each] for r in several])
                        if len(several) > 1
                        else (several[0][each])
                    )
        return {each: found[each] for each in EVALUATIONS if each in found}

    def _kept(self, group: "Group", member: SAE, place: Path | None) -> dict[str, EvalResult]:
        """The results of a group, from the disk if they lie there."""
        key = {
            **self.settings(),
            "sae": fingerprint(member),
            "versions": {each: evaluation(each).version for each in group.gives},
        }
        key = json.loads(json.dumps(key, default=str))
        if place is not None and place.is_file():
            try:
                stored = json.loads(place.read_text(encoding="utf-8"))
                if stored["key"] == key and not stored["failed"]:
                    return {each["name"]: result_from_json(each) for each in stored["results"]}
            except (ValueError, KeyError, TypeError, AssayError):
                pass  # damaged or of another version: measured again
        inner = None if place is None else place.with_suffix("")
        results, failed = self._measured(group, member, inner)
        if place is not None:
            write_json(
                place,
                {
                    "key": key,
                    "failed": failed,
                    "results": [result_json(each) for each in results.values()],
                },
            )
        return results

    def _measured(
        self, group: "Group", member: SAE, folder: Path | None
    ) -> tuple[dict[str, EvalResult], bool]:
        try:
            return dict(group.measure(self, member, folder)), False
        except EndpointError as error:  # may answer another time
            return {each: not_measurable(each, str(error)) for each in group.gives}, True
        except AssayError as error:
            return {each: not_measurable(each, str(error)) for each in group.gives}, False
        except Exception as error:  # a defect in one evaluation must not cost the others
            told = f"it failed: {type(error).__name__}: {error}"
            details = {"traceback": traceback.format_exc()}
            return {each: not_measurable(each, told, details=details) for each in group.gives}, True


@dataclass(frozen=True, kw_only=True)
class Group:
    """Evaluations that are measured together."""

    name: str
    """What the group's file is called."""
    gives: tuple[str, ...]
    """The evaluations."""
    measure: Callable[[Suite, SAE, Path | None], Mapping[str, EvalResult]]
    """Measures them all for one member; the folder is for what lets it go on."""


def _sparse_probing(suite: Suite, sae: SAE, _: Path | None) -> dict[str, EvalResult]:
    return {
        "sparse_probing": sparse_probing(
            suite.model,
            sae,
            suite.hook_point,
            suite.labelled,
            config=suite.config.probing,
            context_size=suite.context_size,
            max_norm=suite.config.max_norm,
        )
    }


def _first_letter(suite: Suite, sae: SAE, _: Path | None) -> dict[str, EvalResult]:
    return first_letter(
        suite.model,
        sae,
        suite.hook_point,
        config=suite.config.first_letter,
        data=suite.words,
        max_words=suite.config.max_words,
    )


def _autointerp(suite: Suite, sae: SAE, folder: Path | None) -> dict[str, EvalResult]:
    return {
        "autointerp": autointerp(
            sae,
            suite.windows,
            suite.judge,
            explainer=suite.explainer,
            config=suite.config.autointerp,
            # a folder for each content: what was begun with other settings stays as it is
            folder=folder / _hash([fingerprint(sae), str(suite.settings())]) if folder else None,
        )
    }


def _scr(suite: Suite, sae: SAE, _: Path | None) -> dict[str, EvalResult]:
    return {
        "scr": spurious_correlation_removal(
            suite.model,
            sae,
            suite.hook_point,
            config=suite.config.perturbation,
            seeds=suite.config.perturbation_seeds,
            context_size=suite.context_size,
            max_norm=suite.config.max_norm,
        )
    }


def _tpp(suite: Suite, sae: SAE, _: Path | None) -> dict[str, EvalResult]:
    return {
        "tpp": targeted_probe_perturbation(
            suite.model,
            sae,
            suite.hook_point,
            suite.labelled,
            config=suite.config.perturbation,
            seeds=suite.config.perturbation_seeds,
            context_size=suite.context_size,
            max_norm=suite.config.max_norm,
        )
    }


GROUPS: tuple[Group, ...] = (
    Group(name="sparse_probing", gives=("sparse_probing",), measure=_sparse_probing),
    Group(
        name="first_letter",
        gives=("first_letter", "feature_splitting", "absorption"),
        measure=_first_letter,
    ),
    Group(name="autointerp", gives=("autointerp",), measure=_autointerp),
    Group(name="scr", gives=("scr",), measure=_scr),
    Group(name="tpp", gives=("tpp",), measure=_tpp),
)
"""What a suite can measure."""


def measurable() -> list[str]:
    """Names of the evaluations that a suite can measure, in the catalogue's order."""
    given = {name for group in GROUPS for name in group.gives}
    return [name for name in EVALUATIONS if name in given]


def fingerprint(sae: SAE) -> str:
    """A hash of an SAE's weights and of how it is used."""
    exported = sae.exported()
    digest = hashlib.sha256(repr(exported.sparsifier).encode())
    for name, tensor in sorted(exported.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().double().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def _groups(only: Sequence[str]) -> list[Group]:
    known = measurable()
    for name in only:
        if name not in known:
            raise ConfigError(
                f"there is no evaluation `{name}`; expected one or more of {', '.join(known)}."
                f"{did_you_mean(name, known)}"
            )
    return [group for group in GROUPS if not only or set(only) & set(group.gives)]


def _file_name(name: str) -> str:
    kept = "".join(each if each.isalnum() or each in "-_." else "-" for each in name)
    # two names that differ only in what a file cannot be called must not share a file
    return kept if kept == name and kept.strip(".") else f"{kept.strip('.')}-{_hash([name])[:6]}"


def _hash(content: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for each in content:
        digest.update(str(each).encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:16]
