"""Auto-interpretation of an SAE: explain latents, judge the explanations, beside chance."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from latent_assay.baselines import random_dictionary
from latent_assay.errors import ConfigError
from latent_assay.evals.autointerp.examples import Chosen, ExampleConfig, Examples, choose
from latent_assay.evals.autointerp.explaining import ContextExplainer, Explainer, Explanation
from latent_assay.evals.autointerp.judging import Judge
from latent_assay.evals.autointerp.ledger import Ledger
from latent_assay.evals.autointerp.scoring import Score, score
from latent_assay.evals.autointerp.windows import WindowedText, firings
from latent_assay.evals.result import EvalResult, measured, not_measurable
from latent_assay.sae import SAE

_FITTED_TO = 8_192
NULL = "another latent's explanation"
RANDOM = "random dictionary"


@dataclass(frozen=True, kw_only=True)
class AutoInterpConfig:
    """How an SAE's latents are interpreted."""

    examples: ExampleConfig = field(default_factory=ExampleConfig)
    """Which latents, from how many contexts."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each draws latents and contexts anew."""
    baselines: bool = True
    """Whether a random dictionary with the same L0 is interpreted too."""

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ConfigError("auto-interpretation needs at least one seed, received none.")


@dataclass(frozen=True, kw_only=True)
class Interpreted:
    """One latent, explained and judged."""

    explanation: Explanation
    """What it is said to stand for."""
    detection: Score | None
    """How well that tells active from inactive contexts."""
    fuzzing: Score | None
    """How well it tells right from wrong tokens; None where no token can be marked wrongly."""
    detection_null: Score | None
    """Detection with another latent's explanation; None if it is the only one."""
    fuzzing_null: Score | None
    """Fuzzing with another latent's explanation."""

    def to_json(self) -> dict[str, Any]:
        """Scores only; explanations are kept on their own."""
        scores = {
            "detection": self.detection,
            "fuzzing": self.fuzzing,
            "detection_null": self.detection_null,
            "fuzzing_null": self.fuzzing_null,
        }
        return {name: None if each is None else each.to_json() for name, each in scores.items()}


def interpret(
    chosen: Chosen,
    explainer: Explainer,
    judge: Judge,
    *,
    ledger: Ledger | None = None,
) -> tuple[Interpreted, ...]:
    """Explain and judge every latent, going on where an earlier call stopped.

    The null is the same judge with the next latent's explanation in a fixed order: what it scores
    does not come from what the explanation says.

    **Arguments:**
    - `chosen`: latents with their contexts.
    - `explainer`, `judge`: who explains, who judges. Neither sees the contexts of the other's half.
    - `ledger`: where explanations and scores are kept; None to keep none.

    **Raises:** `EndpointError` if a model over the network gives no answer; what was done is kept.
    """
    told = {} if ledger is None else ledger.read("explanations")
    judged = {} if ledger is None else ledger.read("scores")
    explanations: dict[int, Explanation] = {}
    for each in chosen.examples:
        if each.latent in told:
            explanations[each.latent] = Explanation.from_json(told[each.latent])
            continue
        explanations[each.latent] = explainer.explain(each)
        if ledger is not None:
            ledger.add("explanations", each.latent, explanations[each.latent].to_json())
    latents = [each.latent for each in chosen.examples]
    found = []
    for i, each in enumerate(chosen.examples):
        other = explanations[latents[(i + 1) % len(latents)]] if len(latents) > 1 else None
        own = explanations[each.latent]
        if each.latent in judged:
            scores = {
                name: None if content is None else Score.from_json(content)
                for name, content in judged[each.latent].items()
            }
            found.append(Interpreted(explanation=own, **scores))
            continue
        new = Interpreted(
            explanation=own,
            detection=_detection(judge, own, each),
            fuzzing=_fuzzing(judge, own, each),
            detection_null=None if other is None else _detection(judge, other, each),
            fuzzing_null=None if other is None else _fuzzing(judge, other, each),
        )
        found.append(new)
        if ledger is not None:
            ledger.add("scores", each.latent, new.to_json())
    return tuple(found)


def _detection(judge: Judge, explanation: Explanation, examples: Examples) -> Score | None:
    answers = judge.detect(explanation, (*examples.active, *examples.inactive))
    n = len(examples.active)
    return score(answers[:n], answers[n:], graded=judge.graded)


def _fuzzing(judge: Judge, explanation: Explanation, examples: Examples) -> Score | None:
    if not examples.wrong:
        return None
    answers = judge.fuzz(explanation, (*examples.active, *examples.wrong))
    n = len(examples.active)
    return score(answers[:n], answers[n:], graded=judge.graded)


def autointerp(
    sae: SAE,
    text: WindowedText,
    judge: Judge,
    *,
    explainer: Explainer | None = None,
    config: AutoInterpConfig | None = None,
    folder: Path | None = None,
    about: Mapping[str, Any] | None = None,
) -> EvalResult:
    """Can latents be explained, so that the explanation tells where they fire?

    For each latent, half of the contexts in which it fires serve to explain it. On the other half
    the judge is asked two questions. *Detection*: in which of these contexts does it fire? The
    others are contexts in which it fires on no token, which has been looked up, not assumed.
    *Fuzzing*: are the right tokens marked? The others are the same contexts with as many wrong
    tokens marked. Both are corrected for chance (see `score`).

    Beside them stand the same judge with another latent's explanation, and a random dictionary of
    the same width and L0. A random direction too is explained well by an encoder's embeddings if
    it happens to follow the topic; only what exceeds it speaks for training.

    **Arguments:**
    - `sae`: one member, for raw activations.
    - `text`: text with activations, from `windowed`.
    - `judge`: `EmbeddingJudge` needs no network; `ChatJudge` asks a language model.
    - `explainer`: `ContextExplainer` by default.
    - `config`: how many latents and contexts, and seeds.
    - `folder`: keeps explanations and scores, and lets an interrupted evaluation go on.
    - `about`: settings that `folder` must agree with, beside those known here.

    **Returns:** a result of the evaluation `autointerp`; not measurable if no latent fires often
    enough.

    **Raises:** `ConfigError` for an ensemble or a folder with other settings; `EndpointError`.

    **Reference:** detection and fuzzing after Paulo et al. 2024, arXiv:2410.13928, with balanced
    classes, verified negatives and correction for chance.
    """
    begun = time.monotonic()
    explainer = explainer or ContextExplainer()
    config = config or AutoInterpConfig()
    settings = {
        **asdict(config.examples),
        "explainer": explainer.name,
        "judge": judge.name,
        "tokens": len(text.x),
    }
    settings.pop("seed")
    kept = settings | dict(about or {})
    own: dict[str, list[float]] = {}
    null: dict[str, list[float]] = {}
    random: dict[str, list[float]] = {}
    errors: dict[str, float] = {}
    listed: list[dict[str, Any]] = []
    eligible = width = 0
    fires = firings(sae, text.x)
    l0 = len(fires.row) / max(1, len(text.x))
    for seed in config.seeds:
        drawn = choose(fires, text, _seeded(config.examples, seed))
        eligible, width = drawn.eligible, drawn.width
        if not drawn.examples:
            return not_measurable(
                "autointerp",
                f"none of {width:,} latents fires in at least {config.examples.fewest} of "
                f"{text.n_windows:,} windows of text while leaving enough windows without it; "
                "give more text",
                config=settings,
                seconds=time.monotonic() - begun,
            )
        ledger = _ledger(folder, f"seed {seed}", kept | {"seed": seed})
        made = interpret(drawn, explainer, judge, ledger=ledger)
        _collect(own, [_numbers(each) for each in made], errors)
        _collect(null, [_numbers(each, null=True) for each in made])
        if seed == config.seeds[0]:
            listed = [
                {"latent": each.explanation.latent, "explanation": each.explanation.text}
                | each.to_json()
                for each in made
            ]
        if config.baselines:
            chance = random_dictionary(
                text.x[:_FITTED_TO], width=sae.width, l0=min(l0, sae.width / 2), seeds=[seed]
            )
            drawn = choose(firings(chance, text.x), text, _seeded(config.examples, seed))
            ledger = _ledger(folder, f"random {seed}", kept | {"seed": seed, "l0": l0})
            made = interpret(drawn, explainer, judge, ledger=ledger)
            if made:
                _collect(random, [_numbers(each) for each in made])
    baselines = {NULL: null, RANDOM: random}
    return measured(
        "autointerp",
        own,
        baselines={name: found for name, found in baselines.items() if found},
        standard_errors=errors,
        details={"eligible": eligible, "width": width, "l0": l0, "latents": listed},
        config=settings,
        seconds=time.monotonic() - begun,
    )


def _seeded(config: ExampleConfig, seed: int) -> ExampleConfig:
    return ExampleConfig(**(asdict(config) | {"seed": seed}))


def _ledger(folder: Path | None, name: str, settings: dict[str, Any]) -> Ledger | None:
    return None if folder is None else Ledger(folder / name, settings)


def _numbers(latent: Interpreted, *, null: bool = False) -> dict[str, float | None]:
    detection = latent.detection_null if null else latent.detection
    fuzzing = latent.fuzzing_null if null else latent.fuzzing
    return {
        "detection": None if detection is None else detection.corrected,
        "detection_auc": None if detection is None else detection.auc,
        "fuzzing": None if fuzzing is None else fuzzing.corrected,
        "fuzzing_auc": None if fuzzing is None else fuzzing.auc,
        "unreadable": None if detection is None else detection.unreadable,
    }


def _collect(
    into: dict[str, list[float]],
    latents: Sequence[Mapping[str, float | None]],
    errors: dict[str, float] | None = None,
) -> None:
    """Add the mean over latents; the largest standard error over seeds stands for all."""
    for key in latents[0] if latents else ():
        known = [value for each in latents if (value := each[key]) is not None]
        if not known:
            continue
        mean = sum(known) / len(known)
        into.setdefault(key, []).append(mean)
        if errors is not None and len(known) > 1:
            spread = sum((each - mean) ** 2 for each in known) / (len(known) - 1)
            errors[key] = max(errors.get(key, 0.0), math.sqrt(spread / len(known)))
