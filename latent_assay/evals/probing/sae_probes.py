"""The protocol of SAE-Probes: many binary data sets, one small probe each."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from latent_assay.activations.language_model import LanguageModel
from latent_assay.errors import ConfigError, DataError
from latent_assay.evals.probing.binary_sets import BinarySet, binary_sets, read_binary_set
from latent_assay.evals.probing.classifier import ClassifierConfig
from latent_assay.evals.probing.probes import Probed, ProbingConfig, probe
from latent_assay.evals.probing.sparse_probing import result_of
from latent_assay.evals.reading import pooled, token_activations
from latent_assay.evals.representations import readers, single
from latent_assay.evals.result import EvalResult, not_measurable
from latent_assay.sae import SAE

_NAME = "sae_probes"
_TEXTS_FOR_BASELINES = 64
_FEW = 128
"""With fewer training samples than this, six folds choose the strength in turn."""


def sae_probes(
    model: LanguageModel,
    sae: SAE,
    hook_point: str,
    folder: str | Path | None = None,
    *,
    datasets: Sequence[str] | None = None,
    ks: Sequence[int] = (1, 2, 5, 10),
    seeds: Sequence[int] = (0, 1, 2),
    max_train: int = 1024,
    max_prompts: int = 5000,
    context_size: int | None = None,
    batch_size: int = 32,
) -> EvalResult:
    """Probe the last token's latents for the class of a prompt, over many binary data sets.

    Of each data set at most `max_train` prompts (100 fewer than there are, if that is less) train,
    as many of both classes, and the others test. The k latents with the largest difference of
    class means, in units of their mean firing, feed an L1 logistic regression; its strength is the
    one of ten with the highest AUC on held-out training prompts.

    Differences from the published runs: several splits instead of one; the last token of text
    stands for the prompt also where the tokenizer puts a special token behind it; F1 is that of
    the positive class, not the weighted mean of both.

    **Arguments:**
    - `model`, `hook_point`: where the SAE reads.
    - `sae`: one member.
    - `folder`: the data sets' folder; None for that of an installed `sae-probes`.
    - `datasets`: names of those to use; None for all.
    - `ks`, `seeds`: numbers of latents; what draws the splits.
    - `max_train`, `max_prompts`: the most training prompts, and prompts, of a data set.
    - `context_size`: a longer prompt keeps its end; None for 1024, or what the model can read.
    - `batch_size`: prompts per forward pass.

    **Returns:** averages over data sets; those with too few prompts are under `left_out` in the
    details.

    **Raises:** `DataError` if the data are not there, `ConfigError` for several members or an
    unknown data set.

    **Reference:** [Kantamneni et al. 2025](https://arxiv.org/abs/2502.16681).
    """
    started = time.perf_counter()
    alone = single(sae)
    names = list(datasets) if datasets is not None else binary_sets(folder)
    if not names:
        raise ConfigError("`datasets` names no data set; give at least one, or None for all.")
    limit = model.max_context_size or 1024
    size = context_size or min(1024, limit)
    settings = {
        "datasets": names,
        "hook_point": hook_point,
        "ks": list(ks),
        "seeds": list(seeds),
        "max_train": max_train,
        "max_prompts": max_prompts,
        "context_size": size,
    }
    base = ProbingConfig(ks=tuple(ks), seeds=tuple(seeds), rules=("mean firing",))
    done: dict[str, Probed] = {}
    left_out: dict[str, str] = {}
    each = None
    for name in names:
        data = read_binary_set(name, folder)
        try:
            prompts = data.prompts[:max_prompts]
            if each is None:
                some = prompts[:_TEXTS_FOR_BASELINES]
                x = token_activations(model, some, hook_point, context_size=size)
                each = readers(alone, x, seeds=seeds)
            rows = pooled(
                model,
                prompts,
                hook_point,
                each.functions(),
                pooling="last",
                context_size=size,
                batch_size=batch_size,
            )
            done[name] = probe(
                {
                    key: several[0] if len(several) == 1 else several
                    for key, several in rows.items()
                },
                torch.tensor(data.positive[:max_prompts])[:, None],
                [name],
                _config(base, data, max_train, max_prompts),
                dense=rows["activation"][0],
            )
        except DataError as error:
            left_out[name] = str(error)
    if not done:
        reason = next(iter(left_out.values()))
        return not_measurable(_NAME, f"no data set could be probed: {reason}", config=settings)
    return result_of(
        _NAME,
        _together(done, left_out),
        base,
        settings,
        seconds=time.perf_counter() - started,
        details={"l0": each.l0 if each is not None else None, "datasets": len(done)},
    )


def _config(
    base: ProbingConfig, data: BinarySet, max_train: int, max_prompts: int
) -> ProbingConfig:
    n = min(len(data.prompts), max_prompts)
    n_train = min(n - 100, max_train)
    if n_train < 20:
        raise DataError(f"{n} prompts; expected at least 120, of which 100 test")
    return replace(
        base,
        test_share=(n - n_train) / n,
        classifier=ClassifierConfig(
            strength=None,
            penalty="l1",
            held_out=min(0.2, 100 / n_train),
            folds=6 if n_train < _FEW else 1,
        ),
    )


def _together(done: dict[str, Probed], left_out: dict[str, str]) -> Probed:
    """Means over data sets, seed by seed."""
    first = next(iter(done.values()))
    values = {
        name: {
            key: [
                sum(numbers) / len(numbers)
                for numbers in zip(*(each.values[name][key] for each in done.values()), strict=True)
            ]
            for key in scores
            if all(key in each.values[name] for each in done.values())
        }
        for name, scores in first.values.items()
    }
    return Probed(
        values=values,
        by_task={task: scores for each in done.values() for task, scores in each.by_task.items()},
        chosen={task: order for each in done.values() for task, order in each.chosen.items()},
        left_out=left_out,
    )
