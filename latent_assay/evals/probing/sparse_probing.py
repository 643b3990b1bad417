r"""Sparse probing: can k latents tell one class of texts from the others?"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from latent_assay.activations.language_model import LanguageModel
from latent_assay.errors import DataError
from latent_assay.evals.labelled import Labelled, one_hot
from latent_assay.evals.probing.probes import Probed, ProbingConfig, probe
from latent_assay.evals.reading import pooled, token_activations
from latent_assay.evals.representations import readers, single
from latent_assay.evals.result import EvalResult, measured, not_measurable
from latent_assay.evals.texts import LabelledTexts, python_passages
from latent_assay.sae import SAE

_TEXTS_FOR_BASELINES = 64


def sparse_probing(
    model: LanguageModel,
    sae: SAE,
    hook_point: str,
    texts: LabelledTexts | None = None,
    *,
    config: ProbingConfig | None = None,
    context_size: int = 128,
    batch_size: int = 32,
    max_norm: float | None = None,
) -> EvalResult:
    r"""Probe the mean latent activations of texts for their class, with k latents at a time.

    Each class against as many texts of the others. On training texts, the k latents with the
    largest absolute difference of class means are chosen, in units of their standard deviation
    (`auc@k`) and without units, as published (`auc_raw@k`); a logistic regression on them is scored
    on texts that had no part in either. Standardised columns make the regularisation ($C = 1$, L2)
    independent of the scale of the activations; raw ones do not, as published.

    Averages run over classes. Beside the SAE stand a random dictionary and principal components of
    the same L0, the activation's own coordinates, training labels dealt out at random, and a dense
    probe on the whole activation, which is what sparse ones may at best lose little against.

    **Arguments:**
    - `model`, `hook_point`: where the SAE reads.
    - `sae`: one member.
    - `texts`: labelled texts; None for passages of Python's documentation (`python_passages`).
    - `config`: how probes are fitted, and the seeds.
    - `context_size`, `batch_size`: tokens per text, texts per forward pass.
    - `max_norm`: longer activations are left out; give the `threshold` under `norm_outliers` in the
      manifest of the harvest that the SAE was trained on.

    **Returns:** the result; not measurable if no class has enough texts, or no latent fires.

    **Raises:** `ConfigError` for an SAE of several members, `HookError` for an unknown hook point,
    `ShapeError` if the SAE does not fit it, `MissingExtra` without scikit-learn.

    **Reference:** the protocol is that of SAEBench ([Karvonen et al.
    2025](https://arxiv.org/abs/2503.09532)), which has the raw rule only, and draws its splits
    without a seed.
    """
    config = config or ProbingConfig()
    started = time.perf_counter()
    alone = single(sae)
    texts = texts or python_passages()
    settings = {
        "data": texts.name,
        "n_texts": len(texts.texts),
        "hook_point": hook_point,
        "context_size": context_size,
        "max_norm": max_norm,
        **config.content(),
    }
    options: dict[str, Any] = {
        "context_size": context_size,
        "batch_size": batch_size,
        "max_norm": max_norm,
    }
    order = torch.randperm(len(texts.texts), generator=torch.Generator().manual_seed(0))
    some = [texts.texts[i] for i in order[:_TEXTS_FOR_BASELINES].tolist()]
    try:
        x = token_activations(model, some, hook_point, **options)
        each = readers(alone, x, seeds=config.seeds)
        rows = pooled(model, texts.texts, hook_point, each.functions(), **options)
        probed = probe(
            {name: several[0] if len(several) == 1 else several for name, several in rows.items()},
            one_hot(texts.labels, texts.classes),
            texts.classes,
            config,
            dense=rows["activation"][0],
            groups=_numbered(texts.groups),
        )
    except DataError as error:
        return not_measurable("sparse_probing", str(error), config=settings)
    return result_of(
        "sparse_probing",
        probed,
        config,
        settings,
        seconds=time.perf_counter() - started,
        details={"l0": each.l0},
    )


def probe_labelled(
    sae: SAE,
    data: Labelled,
    *,
    name: str = "sparse_probing",
    config: ProbingConfig | None = None,
    settings: Mapping[str, Any] | None = None,
) -> EvalResult:
    """Probe single activations that have labels: tokens, or samples of a world.

    In a world the labels are the firing of its features, and a perfect SAE scores 1.

    **Arguments:**
    - `sae`: one member.
    - `data`: activations and labels.
    - `name`: the evaluation whose result this is.
    - `config`: how probes are fitted, and the seeds.
    - `settings`: kept in the result's `config`.

    **Returns:** the result, with the same baselines as `sparse_probing`.

    **Raises:** `ConfigError` for an SAE of several members, `ShapeError` if it does not fit.
    """
    config = config or ProbingConfig()
    started = time.perf_counter()
    alone = single(sae)
    alone.check_input(data.x[:1])
    kept = {"n_samples": len(data.x), **config.content(), **(settings or {})}
    try:
        each = readers(alone, data.x, seeds=config.seeds)
        probed = probe(
            each.representations(data.x),
            data.labels,
            data.tasks,
            config,
            dense=data.x.float().cpu(),
            groups=data.groups,
        )
    except DataError as error:
        return not_measurable(name, str(error), config=kept)
    return result_of(
        name,
        probed,
        config,
        kept,
        seconds=time.perf_counter() - started,
        details={"l0": each.l0},
    )


def result_of(
    name: str,
    probed: Probed,
    config: ProbingConfig,
    settings: Mapping[str, Any],
    *,
    seconds: float,
    details: Mapping[str, Any],
) -> EvalResult:
    r"""The result of probing, in which seeds that share samples do not count as independent.

    Splits of one set of samples overlap, so that more of them do not make a mean arbitrarily sure;
    the standard error is taken as $s\sqrt{1/n + a/(1-a)}$ for $n$ splits with a share $a$ of test
    samples ([Nadeau and Bengio 2003](https://doi.org/10.1023/A:1024068626366)).
    """
    first, *others = probed.values
    share = config.test_share
    factor = math.sqrt(1 / len(config.seeds) + share / (1 - share))
    errors = {
        key: factor * torch.tensor(each, dtype=torch.float64).std().item()
        for key, each in probed.values[first].items()
        if len(each) > 1
    }
    return measured(
        name,
        probed.values[first],
        baselines={other: probed.values[other] for other in others},
        standard_errors=errors,
        details={
            **details,
            "by_task": probed.by_task,
            "latents": probed.chosen,
            "left_out": probed.left_out,
        },
        config=settings,
        seconds=seconds,
    )


def _numbered(groups: Sequence[str] | None) -> Tensor | None:
    if groups is None:
        return None
    number = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    return torch.tensor([number[group] for group in groups])
