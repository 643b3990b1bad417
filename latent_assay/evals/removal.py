"""SCR and TPP of an SAE on labelled texts, beside dictionaries that have learned nothing."""

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from latent_assay.activations.language_model import LanguageModel
from latent_assay.baselines import permuted_decoder
from latent_assay.errors import DataError
from latent_assay.evals.labelled import one_hot
from latent_assay.evals.linear_probe import draw
from latent_assay.evals.perturbation import Documents, PerturbationConfig
from latent_assay.evals.reading import pooled, token_activations
from latent_assay.evals.representations import readers, single
from latent_assay.evals.result import EvalResult, measured, not_measurable
from latent_assay.evals.scr import SCR, scr
from latent_assay.evals.texts import LabelledTexts, python_passages
from latent_assay.evals.tpp import TPP, tpp
from latent_assay.sae import SAE

SEEDS = (0, 1, 2)
TEST_SHARE = 0.25
_TEXTS_FOR_BASELINES = 64
_CODE = re.compile(r"\w\(|_\w|`|'\w+'")


@dataclass(frozen=True, kw_only=True)
class TwoConcepts:
    """Texts that may have either of two concepts, both, or none."""

    texts: Sequence[str]
    """What the model reads."""
    concepts: Bool[Tensor, "text 2"]
    """Which concepts each has."""
    names: tuple[str, str]
    """What the concepts are called."""
    name: str
    """How results call these data."""

    @classmethod
    def of(cls, texts: LabelledTexts, positive: str) -> "TwoConcepts":
        """Texts of two classes, and whether each speaks of code.

        **Arguments:**
        - `texts`: those with other labels than two are refused.
        - `positive`: the label that is the first concept.

        **Raises:** `DataError` unless there are two labels, `positive` among them.
        """
        if len(texts.classes) != 2 or positive not in texts.classes:
            raise DataError(
                f"{texts.name}: expected two labels, {positive!r} among them, received "
                f"{', '.join(texts.classes)}."
            )
        first = torch.tensor([label == positive for label in texts.labels])
        second = torch.tensor([bool(_CODE.search(text)) for text in texts.texts])
        return cls(
            texts=texts.texts,
            concepts=torch.stack([first, second], dim=1),
            names=(f"is about {positive}", "names things of code"),
            name=f"{texts.name}, {' or '.join(texts.classes)}, with or without code",
        )


def python_two_concepts() -> TwoConcepts:
    """Passages of the documentation of `asyncio` or `email`, which do or do not name code.

    Code is a call, a name with an underscore, or something in back ticks or single quotes.

    **Raises:** `DataError` if this Python has no documentation.
    """
    return TwoConcepts.of(python_passages(("asyncio", "email"), min_words=8), "asyncio")


def targeted_probe_perturbation(
    model: LanguageModel,
    sae: SAE,
    hook_point: str,
    texts: LabelledTexts | None = None,
    *,
    config: PerturbationConfig | None = None,
    seeds: Sequence[int] = SEEDS,
    context_size: int = 128,
    batch_size: int = 32,
    max_norm: float | None = None,
) -> EvalResult:
    """TPP of an SAE (see `tpp`) on labelled texts. Unreliable; never rank SAEs by it.

    **Arguments:**
    - `model`, `hook_point`: where the SAE reads.
    - `sae`: one member.
    - `texts`: labelled texts; None for passages of Python's documentation.
    - `config`: counts and probes; its seed is replaced.
    - `seeds`: each splits the texts, draws samples and trains probes anew.
    - `context_size`, `batch_size`, `max_norm`: as for `sparse_probing`.

    **Returns:** a result of `tpp`; not measurable if classes are too small.

    **Raises:** `ConfigError`, `HookError`, `ShapeError` as `sparse_probing`.
    """
    config = config or PerturbationConfig()
    texts = texts or python_passages()
    number = one_hot(texts.labels, texts.classes).long().argmax(1)

    def once(x: Tensor, z: Tensor, W_dec: Tensor, seed: int) -> Mapping[str, float | None]:
        train, test = _split(number, seed)
        whole = Documents(x=x, z=z)
        found: TPP = tpp(
            whole.take(train),
            number[train],
            whole.take(test),
            number[test],
            W_dec,
            classes=texts.classes,
            config=_seeded(config, seed),
        )
        return (
            {f"tpp@{n}": each for n, each in found.total.items()}
            | {f"intended@{n}": each for n, each in found.intended.items()}
            | {f"unintended@{n}": each for n, each in found.unintended.items()}
        )

    settings = {"data": texts.name, "n_texts": len(texts.texts), "classes": texts.classes}
    return _evaluated(
        "tpp", model, sae, hook_point, texts.texts, once, config, seeds, settings,
        context_size=context_size, batch_size=batch_size, max_norm=max_norm,
    )  # fmt: skip


def spurious_correlation_removal(
    model: LanguageModel,
    sae: SAE,
    hook_point: str,
    texts: TwoConcepts | None = None,
    *,
    config: PerturbationConfig | None = None,
    seeds: Sequence[int] = SEEDS,
    context_size: int = 128,
    batch_size: int = 32,
    max_norm: float | None = None,
) -> EvalResult:
    """SCR of an SAE (see `scr`) on texts with two concepts. Unreliable; never rank SAEs by it.

    **Arguments:**
    - `texts`: texts with two concepts; None for passages of Python's documentation.
    - `model`, `sae`, `hook_point`, `config`, `seeds`, `context_size`, `batch_size`, `max_norm`: as
      for `targeted_probe_perturbation`.

    **Returns:** a result of `scr`; not measurable if a combination of concepts is too rare, or the
    biased probe has no bias.

    **Raises:** as `targeted_probe_perturbation`.
    """
    config = config or PerturbationConfig()
    texts = texts or python_two_concepts()
    combination = texts.concepts.long() @ torch.tensor([2, 1])

    def once(x: Tensor, z: Tensor, W_dec: Tensor, seed: int) -> Mapping[str, float | None]:
        train, test = _split(combination, seed)
        whole = Documents(x=x, z=z)
        found: SCR = scr(
            whole.take(train),
            texts.concepts[train],
            whole.take(test),
            texts.concepts[test],
            W_dec,
            config=_seeded(config, seed),
        )
        return (
            {f"scr@{n}": each for n, each in found.score.items()}
            | {f"scr_first@{n}": each for n, each in found.first.items()}
            | {f"scr_second@{n}": each for n, each in found.second.items()}
        )

    settings = {"data": texts.name, "n_texts": len(texts.texts), "concepts": list(texts.names)}
    return _evaluated(
        "scr", model, sae, hook_point, texts.texts, once, config, seeds, settings,
        context_size=context_size, batch_size=batch_size, max_norm=max_norm,
    )  # fmt: skip


_Once = Callable[
    [
        Float[Tensor, "text d_in"],
        Float[Tensor, "text latent"],
        Float[Tensor, "latent d_in"],
        int,
    ],
    Mapping[str, float | None],
]


def _evaluated(
    name: str,
    model: LanguageModel,
    sae: SAE,
    hook_point: str,
    texts: Sequence[str],
    once: _Once,
    config: PerturbationConfig,
    seeds: Sequence[int],
    settings: Mapping[str, Any],
    **reading: Any,
) -> EvalResult:
    started = time.perf_counter()
    alone = single(sae)
    kept = {
        **settings,
        "hook_point": hook_point,
        "ablated": list(config.counts(alone.width)),
        "probe": asdict(config.probe),
        "seeds": list(seeds),
        "context_size": reading["context_size"],
        "max_norm": reading["max_norm"],
    }
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0))
    try:
        some = [texts[i] for i in order[:_TEXTS_FOR_BASELINES].tolist()]
        x = token_activations(model, some, hook_point, **reading)
        each = readers(alone, x, seeds=seeds)
        rows = pooled(model, texts, hook_point, each.functions(), **reading)
        mean = rows["activation"][0]
        shuffled = [permuted_decoder(alone, seeds=[seed]).W_dec[0] for seed in seeds]
        dictionaries: dict[str, list[tuple[Tensor, Tensor]]] = {
            "sae": [(rows["sae"][0], alone.W_dec[0])] * len(seeds),
            "random dictionary": [
                (z, own.W_dec[0])
                for z, own in zip(rows["random dictionary"], each.random, strict=True)
            ],
            "permuted decoder": [(rows["sae"][0], W_dec) for W_dec in shuffled],
            "principal components": [(rows["principal components"][0], each.components.W_dec[0])]
            * len(seeds),
        }
        found = {
            who: _over_seeds(
                [once(mean, *pair, seed) for pair, seed in zip(pairs, seeds, strict=True)]
            )
            for who, pairs in dictionaries.items()
        }
    except DataError as error:
        return not_measurable(name, str(error), config=kept)
    own = found.pop("sae")
    if not own:
        return not_measurable(
            name,
            "the biased probe is as good as the unbiased one in every seed: there is nothing to "
            "remove",
            config=kept,
        )
    factor = math.sqrt(1 / len(seeds) + TEST_SHARE / (1 - TEST_SHARE))
    return measured(
        name,
        own,
        baselines={who: numbers for who, numbers in found.items() if numbers},
        # splits of the same texts overlap, so their spread understates that of fresh texts
        standard_errors={
            key: factor * float(torch.tensor(values, dtype=torch.float64).std())
            for key, values in own.items()
            if len(values) > 1
        },
        details={"l0": each.l0},
        config=kept,
        seconds=time.perf_counter() - started,
    )


def _over_seeds(numbers: Sequence[Mapping[str, float | None]]) -> dict[str, list[float]]:
    """One list per key that at least one seed could measure."""
    found: dict[str, list[float]] = {}
    for each in numbers:
        for key, number in each.items():
            if number is not None:
                found.setdefault(key, []).append(number)
    return found


def _split(group: Int[Tensor, " text"], seed: int) -> tuple[Tensor, Tensor]:
    """Training and test rows, with the same share of every group in both."""
    generator = torch.Generator().manual_seed(seed)
    train, test = [], []
    for each in group.unique().tolist():
        rows = draw(group, each, len(group), generator)
        held_out = round(TEST_SHARE * len(rows))
        train.append(rows[held_out:])
        test.append(rows[:held_out])
    return torch.cat(train), torch.cat(test)


def _seeded(config: PerturbationConfig, seed: int) -> PerturbationConfig:
    return PerturbationConfig(ablated=config.ablated, probe=config.probe, seed=seed)
