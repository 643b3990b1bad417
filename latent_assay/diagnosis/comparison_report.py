"""A comparison of SAEs as JSON and as a page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from latent_assay.activations import ActivationStore
from latent_assay.diagnosis.comparison import ComparedSAE, Comparison, Kinship
from latent_assay.metrics import MeanSd
from latent_assay.report import Cell, Column, MetricsTable, Prose, Row
from latent_assay.report.browsing import browser_of
from latent_assay.report.latents import Corpus, LatentBrowser, LatentPages
from latent_assay.sae import SAE

_LISTED = 12
_TOKENS = 14

_COLUMNS = (
    Column(
        key="decoder_mcc",
        label="matched cosine",
        direction="none",
        definition="Mean cosine of decoder rows under the best one-to-one matching.",
    ),
    Column(
        key="activation_mcc",
        label="matched correlation",
        direction="none",
        definition="Mean correlation of activations under the best one-to-one matching.",
    ),
    Column(
        key="covered",
        label="first found in second",
        direction="none",
        definition="Share of the first SAE's living latents for which the second has one along the "
        "same direction.",
    ),
    Column(
        key="covering",
        label="second found in first",
        direction="none",
        definition="The same the other way round.",
    ),
)


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison in plain JSON types.

    Keys: `threshold`, `rows`, `notes`; `pairs`, each with `first`, `second`, `verdict`, `between`
    and `chance`; `saes`, each with `name`, `members`, `width`, `seeds`, and `alone`, a list of
    latents with `latent`, `density`, `stability`, `cosine` and `correlation` (the best elsewhere).
    A number over pairs of members has `mean`, `sd` (null for one pair) and `n`.
    """
    return {
        "threshold": comparison.config.threshold,
        "rows": comparison.rows,
        "notes": list(comparison.notes),
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                "verdict": pair.verdict,
                "between": _kinship_json(pair.between),
                "chance": _kinship_json(pair.chance),
            }
            for pair in comparison.pairs
        ],
        "saes": [
            {
                "name": sae.name,
                "members": sae.members,
                "width": sae.width,
                "seeds": None if sae.seeds is None else _kinship_json(sae.seeds),
                "alone": [_alone_json(sae, latent) for latent in sae.alone.tolist()],
            }
            for sae in comparison.saes
        ],
    }


def comparison_sections(
    comparison: Comparison,
    saes: Mapping[str, SAE],
    store: ActivationStore | None = None,
) -> tuple[Any, ...]:
    """Sections of a report: what may be said, the numbers, and the latents that one alone has.

    **Arguments:**
    - `comparison`: from `compare`.
    - `saes`: the same SAEs.
    - `store`: harvested activations with their text, for contexts; None for none.
    """
    sections: list[Any] = [
        Prose(
            title="What may be said",
            paragraphs=(*(pair.verdict for pair in comparison.pairs), *comparison.notes),
            tone="note",
        ),
        _table(comparison),
    ]
    browser = None
    if store is not None and store.manifest:
        labels = {
            sae.name: _labels(sae, [each.name for each in comparison.saes])
            for sae in comparison.saes
        }
        browser = browser_of(store, saes, labels=labels)
    sections += [_alone_section(sae, comparison, browser) for sae in comparison.saes]
    return (*sections, *([browser] if browser is not None else []))


def _table(comparison: Comparison) -> MetricsTable:
    rows = []
    for pair in comparison.pairs:
        rows.append(
            Row(name=f"{pair.first} – {pair.second}", kind="trained", cells=_cells(pair.between))
        )
    for sae in comparison.saes:
        if sae.seeds is not None:
            rows.append(
                Row(
                    name=f"{sae.name}, between its seeds",
                    kind="trained",
                    note=f"{sae.members} members",
                    cells=_cells(sae.seeds),
                )
            )
    for pair in comparison.pairs:
        rows.append(
            Row(
                name=f"{pair.first} – random directions",
                kind="baseline",
                note=f"as many as {pair.second} has latents",
                cells=_cells(pair.chance),
            )
        )
    return MetricsTable(
        title="What they have in common",
        columns=_COLUMNS,
        rows=tuple(rows),
        ranked=False,
        sentence=(
            "Mean ± sd over pairs of members. Two latents count as the same from a cosine of "
            f"{comparison.config.threshold:g} on. Likeness is no merit: nothing is ranked."
        ),
    )


def _cells(kinship: Kinship) -> dict[str, Cell]:
    found = {
        "decoder_mcc": kinship.decoder_mcc,
        "activation_mcc": kinship.activation_mcc,
        "covered": kinship.covered,
        "covering": kinship.covering,
    }
    return {
        key: Cell(mean=each.mean, sd=each.sd if math.isfinite(each.sd) else None, n=each.n)
        for key, each in found.items()
        if each is not None
    }


def _alone_section(
    sae: ComparedSAE, comparison: Comparison, browser: LatentBrowser | None
) -> Prose:
    latents = sae.alone.tolist()
    living = sae.width if sae.density is None else int((sae.density > 0).sum())
    paragraphs = [
        f"{len(latents):,} of {living:,} living latents of {sae.name} have no counterpart in any "
        "other SAE, neither along the same direction nor firing alike."
        if comparison.rows
        else f"{len(latents):,} of {living:,} latents of {sae.name} have no counterpart in any "
        "other SAE along the same direction."
    ]
    if sae.stability is not None and latents:
        kept = int((sae.stability[sae.alone] >= 0.5).sum())
        paragraphs.append(
            f"{kept:,} of them are found by at least half of its other seeds; the rest may be luck."
        )
    pages = (
        None if browser is None else next(each for each in browser.saes if each.name == sae.name)
    )
    for latent in latents[:_LISTED]:
        told = [f"latent {latent}", f"best cosine elsewhere {float(sae.elsewhere[latent]):.2f}"]
        if sae.elsewhere_activation is not None:
            told.append(f"best correlation {float(sae.elsewhere_activation[latent]):.2f}")
        if sae.stability is not None:
            told.append(f"in {float(sae.stability[latent]):.0%} of the other seeds")
        if sae.density is not None:
            told.append(f"fires on {float(sae.density[latent]):.2%}")
        text = "; ".join(told)
        if pages is not None and browser is not None:
            text += "".join(f"\n  {each}" for each in _contexts(latent, pages, browser.corpus, 2))
        paragraphs.append(text)
    if len(latents) > _LISTED:
        paragraphs.append(f"and {len(latents) - _LISTED:,} more, in the JSON.")
    return Prose(title=f"Only in {sae.name}", paragraphs=tuple(paragraphs))


def _contexts(latent: int, pages: LatentPages, corpus: Corpus, most: int) -> Iterator[str]:
    """The strongest contexts in a line each, the peak in brackets."""
    ends = np.append(corpus.documents[1:], len(corpus.ids))
    for peak in pages.contexts.peaks[latent][:most].tolist():
        if peak < 0:
            return
        document = int(np.searchsorted(corpus.documents, peak, side="right")) - 1
        start = max(peak - _TOKENS, int(corpus.documents[document]))
        stop = min(peak + _TOKENS // 2, int(ends[document]))
        pieces = [corpus.pieces[i] for i in corpus.ids[start:stop]]
        pieces[peak - start] = f"[{pieces[peak - start].strip()}]"
        yield " ".join("".join(f" {p}" if p[:1] != " " else p for p in pieces).split())


def _labels(sae: ComparedSAE, names: Sequence[str]) -> list[str]:
    alone = set(sae.alone.tolist())
    dead = set() if sae.density is None else set((sae.density == 0).nonzero().squeeze(-1).tolist())
    return [
        f"only in {sae.name}" if i in alone else "dead" if i in dead else "elsewhere too"
        for i in range(sae.width)
    ]


def _alone_json(sae: ComparedSAE, latent: int) -> dict[str, Any]:
    def at(values: Any) -> float | None:
        return None if values is None else float(values[latent])

    return {
        "latent": latent,
        "density": at(sae.density),
        "stability": at(sae.stability),
        "cosine": at(sae.elsewhere),
        "correlation": at(sae.elsewhere_activation),
    }


def _kinship_json(kinship: Kinship) -> dict[str, Any]:
    def number(value: MeanSd | None) -> dict[str, Any] | None:
        if value is None:
            return None
        sd = value.sd if math.isfinite(value.sd) else None
        return {"mean": value.mean, "sd": sd, "n": value.n}

    return {
        "decoder_mcc": number(kinship.decoder_mcc),
        "activation_mcc": number(kinship.activation_mcc),
        "covered": number(kinship.covered),
        "covering": number(kinship.covering),
    }
