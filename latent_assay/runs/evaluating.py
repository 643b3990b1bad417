"""From files of SAEs to results of evaluations: JSON, SAEBench's JSON, and a page."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from latent_assay import formats
from latent_assay.atomic import write_json
from latent_assay.errors import AssayError, ConfigError
from latent_assay.evals import EvalResult, LabelledTexts
from latent_assay.evals.autointerp import ChatExplainer, ChatJudge, HttpChat, LocalChat
from latent_assay.evals.materials import Materials, SuiteConfig
from latent_assay.evals.sae_bench_json import sae_bench_json
from latent_assay.evals.storing import result_json
from latent_assay.evals.suite import Suite
from latent_assay.report import Report
from latent_assay.report.evaluations import evaluation_sections, headline_comparisons
from latent_assay.runs.inputs import NamedSAE, hook_point_of, model_named, read_saes


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluated:
    """What `assay eval` made."""

    results: Mapping[str, Mapping[str, EvalResult]]
    """For each SAE its results."""
    page: Path
    """The report; `results.json` and the folder `sae_bench` lie beside it."""
    content: dict[str, Any]
    """The JSON."""


def evaluate_files(
    sources: Sequence[str],
    folder: Path,
    *,
    model: str,
    only: Sequence[str] = (),
    text: str = "cpython",
    labelled: Path | None = None,
    hook_point: str | None = None,
    judge: str | None = None,
    judge_model: str | None = None,
    device: str = "cpu",
    config: SuiteConfig | None = None,
    advance: Callable[[str, str], object] | None = None,
) -> Evaluated:
    """Evaluate SAEs from files, and write `report.html`, `results.json` and SAEBench's JSON.

    **Arguments:**
    - `sources`: places of SAEs.
    - `folder`: where everything goes; results that lie there are not measured again.
    - `model`: folder, name, or `bundled:all-MiniLM-L6-v2`.
    - `only`: names of evaluations; all if empty.
    - `text`: text for auto-interpretation.
    - `labelled`: a CSV or JSON Lines file of labelled texts; None for Python's documentation.
    - `hook_point`: None to take it from the SAEs' files.
    - `judge`: address of an OpenAI-compatible endpoint, or a folder or name of a causal model, that
      explains and judges; None for embeddings of all-MiniLM-L6-v2.
    - `judge_model`: the model's name at the endpoint.
    - `device`: where the model runs.
    - `config`: how much of everything.
    - `advance`: called with SAE and evaluation before each.

    **Raises:** `ConfigError` for unknown evaluations or an endpoint without a model's name, and
    what loading SAEs and model raises.
    """
    found = read_saes(sources)
    where = hook_point_of(found, hook_point)
    chat: Any = None
    if judge is not None and judge.startswith(("http://", "https://")):
        if judge_model is None:
            raise ConfigError(
                f"which model at {judge}? Name it with --judge-model, as the endpoint calls it."
            )
        chat = HttpChat(base_url=judge, model=judge_model)
    elif judge is not None:
        chat = LocalChat.load(judge, device=device)
    loaded = model_named(model, where, device=device)
    materials = Materials(
        loaded,
        where,
        text=text,
        labelled=None if labelled is None else LabelledTexts.read(labelled),
        judge=None if chat is None else ChatJudge(chat),
        explainer=None if chat is None else ChatExplainer(chat),
        config=config,
    )
    for each in found:
        if each.sae.d_in != loaded.d_in(where):
            raise ConfigError(
                f"{each.name} reads d_in {each.sae.d_in}, but activations of {loaded.name} at "
                f"{where} have {loaded.d_in(where)}. Was it trained at another hook point or on "
                "another model?"
            )
    results = Suite(materials).run(
        {each.name: each.sae for each in found}, only=only, folder=folder / "results",
        advance=advance,
    )  # fmt: skip
    _write_sae_bench(found, results, loaded.name, folder / "sae_bench")
    comparisons = headline_comparisons(results)
    content = {
        "saes": {
            each.name: {
                "source": each.source,
                "results": {k: result_json(v) for k, v in results[each.name].items()},
            }
            for each in found
        },
        "comparisons": [each.to_json() for each in comparisons],
    }
    write_json(folder / "results.json", content)
    report = Report(
        title="Evaluation of " + ", ".join(results),
        summary="\n\n".join(each.sentence() for each in comparisons if not each.baseline),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        provenance={
            "SAEs": {each.name: each.source for each in found},
            "model": loaded.name,
            **{
                k: v
                for k, v in materials.settings().items()
                if k in ("hook_point", "judge", "text")
            },
        },
        sections=evaluation_sections(results),
    )
    return Evaluated(results=results, page=report.write(folder), content=content)


def _write_sae_bench(
    saes: Sequence[NamedSAE],
    results: Mapping[str, Mapping[str, EvalResult]],
    model_name: str,
    folder: Path,
) -> None:
    import latent_assay

    for each in saes:
        try:
            config = formats.read_config(each.source)[0]
        except AssayError:  # a format that keeps none
            config = {"d_in": each.sae.d_in, "d_sae": each.sae.width}
        for name, result in results[each.name].items():
            content = sae_bench_json(
                result,
                model_name=model_name,
                sae_id=each.name,
                sae_config=config,
                epoch_millis=int(time.time() * 1_000),
                version=latent_assay.__version__,
            )
            if content is not None:
                write_json(
                    folder / name / f"{each.name.replace('/', '_')}_eval_results.json", content
                )
