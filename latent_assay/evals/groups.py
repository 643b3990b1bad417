"""The evaluations of a suite, those that share their reading together."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from latent_assay.evals.autointerp import autointerp
from latent_assay.evals.consistency_of_sae import semantic_consistency
from latent_assay.evals.core import core_metrics
from latent_assay.evals.first_letter import first_letter
from latent_assay.evals.materials import Materials, short_hash
from latent_assay.evals.parts_of_speech import parts_of_speech
from latent_assay.evals.probing import sparse_probing
from latent_assay.evals.removal import spurious_correlation_removal, targeted_probe_perturbation
from latent_assay.evals.result import EvalResult
from latent_assay.sae import SAE


@dataclass(frozen=True, kw_only=True)
class Group:
    """Evaluations that are measured together."""

    name: str
    """What the group's file is called."""
    gives: tuple[str, ...]
    """The evaluations."""
    measure: Callable[[Materials, SAE, Path | None], Mapping[str, EvalResult]]
    """Measures them all for one member; the folder is for what lets it go on."""


def _core(read: Materials, sae: SAE, _: Path | None) -> dict[str, EvalResult]:
    texts = [each for each in islice(iter(read.text), 2_000) if isinstance(each, str)]
    return {
        "core": core_metrics(
            sae,
            read.windows.x,
            model=read.model if texts else None,
            texts=texts,
            hook_point=read.hook_point,
            n_tokens=read.config.tokens,
            context_size=read.context_size,
            max_norm=read.config.max_norm,
        )
    }


def _parts_of_speech(read: Materials, sae: SAE, _: Path | None) -> dict[str, EvalResult]:
    return {
        "parts_of_speech": parts_of_speech(
            read.model,
            sae,
            read.hook_point,
            context_size=read.context_size,
            max_words=read.config.tagged_words,
            max_norm=read.config.max_norm,
        )
    }


def _semantic_consistency(read: Materials, sae: SAE, _: Path | None) -> dict[str, EvalResult]:
    x, labels, classes = read.tokens_of_classes
    return {
        "semantic_consistency": semantic_consistency(
            sae, x, labels, reference=read.windows.x, classes=classes
        )
    }


def _sparse_probing(read: Materials, sae: SAE, _: Path | None) -> dict[str, EvalResult]:
    return {
        "sparse_probing": sparse_probing(
            read.model,
            sae,
            read.hook_point,
            read.labelled,
            config=read.config.probing,
            context_size=read.context_size,
            max_norm=read.config.max_norm,
        )
    }


def _first_letter(read: Materials, sae: SAE, _: Path | None) -> dict[str, EvalResult]:
    return first_letter(
        read.model,
        sae,
        read.hook_point,
        config=read.config.first_letter,
        data=read.words,
        max_words=read.config.max_words,
    )


def _autointerp(read: Materials, sae: SAE, folder: Path | None) -> dict[str, EvalResult]:
    # a folder for each content: what was begun with other settings stays as it is
    content = short_hash([fingerprint(sae), str(read.settings())])
    return {
        "autointerp": autointerp(
            sae,
            read.windows,
            read.judge,
            explainer=read.explainer,
            config=read.config.autointerp,
            folder=None if folder is None else folder / content,
        )
    }


def _scr(read: Materials, sae: SAE, _: Path | None) -> dict[str, EvalResult]:
    return {
        "scr": spurious_correlation_removal(
            read.model,
            sae,
            read.hook_point,
            config=read.config.perturbation,
            seeds=read.config.perturbation_seeds,
            context_size=read.context_size,
            max_norm=read.config.max_norm,
        )
    }


def _tpp(read: Materials, sae: SAE, _: Path | None) -> dict[str, EvalResult]:
    return {
        "tpp": targeted_probe_perturbation(
            read.model,
            sae,
            read.hook_point,
            read.labelled,
            config=read.config.perturbation,
            seeds=read.config.perturbation_seeds,
            context_size=read.context_size,
            max_norm=read.config.max_norm,
        )
    }


GROUPS: tuple[Group, ...] = (
    Group(name="core", gives=("core",), measure=_core),
    Group(name="sparse_probing", gives=("sparse_probing",), measure=_sparse_probing),
    Group(
        name="first_letter",
        gives=("first_letter", "feature_splitting", "absorption"),
        measure=_first_letter,
    ),
    Group(name="parts_of_speech", gives=("parts_of_speech",), measure=_parts_of_speech),
    Group(
        name="semantic_consistency",
        gives=("semantic_consistency",),
        measure=_semantic_consistency,
    ),
    Group(name="autointerp", gives=("autointerp",), measure=_autointerp),
    Group(name="scr", gives=("scr",), measure=_scr),
    Group(name="tpp", gives=("tpp",), measure=_tpp),
)
"""What a suite can measure."""


def fingerprint(sae: SAE) -> str:
    """A hash of an SAE's weights and of how it is used."""
    exported = sae.exported()
    digest = hashlib.sha256(repr(exported.sparsifier).encode())
    for name, tensor in sorted(exported.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().double().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
