"""The case study: which old latents gave most to which new one, with their contexts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latent_assay.activations import ActivationStore
from latent_assay.diagnosis.extension_study import ExtensionOutcome
from latent_assay.diagnosis.handover import Handover, handover
from latent_assay.errors import ConfigError
from latent_assay.report import (
    Cell,
    Column,
    ContextConfig,
    Corpus,
    LatentBrowser,
    LatentContexts,
    LatentPages,
    MetricsTable,
    Prose,
    Row,
    latent_contexts,
)
from latent_assay.report.page import Section
from latent_assay.sae import SAE

_ROWS_AT_ONCE = 2_048


@dataclass(frozen=True, kw_only=True)
class CaseConfig:
    """How much the case study shows."""

    cases: int = 6
    """New latents, those first to which most was given."""
    top: int = 4
    """Old latents for each."""
    contexts: int = 5
    """Contexts of each latent."""
    before: int = 16
    """Tokens of a context before the one on which the latent fires most."""
    after: int = 9
    """Tokens behind it."""
    rows: int = 50_000
    """Activations, from the beginning of the store, among which contexts are looked for."""

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ConfigError(f"`rows` must be at least 1, got {self.rows}.")


def case_study(
    outcome: ExtensionOutcome,
    *,
    member: int = 0,
    store: ActivationStore | None = None,
    scale: float = 1.0,
    config: CaseConfig | None = None,
) -> tuple[Section, ...]:
    """Which old latents gave most to which new one, as sections of a report.

    **Arguments:**
    - `outcome`: of an extension.
    - `member`: which of its members.
    - `store`: harvested activations with their text. With it come a section for each new latent,
      with its top contexts (in the extended SAE) and those of the old latents (in the *control*,
      where they still carry what they gave away), and a browser of all of them.
    - `scale`: the factor that activations were multiplied with in training.
    - `config`: how much to show.

    **Returns:** the table of pairs; with a store, the cases and the browser.

    **Raises:** `ConfigError` for a member that does not exist; `DataError` for a store without
    text.
    """
    config = config or CaseConfig()
    control, extended = outcome.control.take(member), outcome.extended.take(member)
    found = handover(control.W_dec[0], extended.W_dec[0], cases=config.cases, top=config.top)
    table = _table(found)
    if store is None:
        return (table,)
    shown = _Shown.of(control, extended, found)
    corpus, contexts = _contexts(shown, store, scale, config)
    cases = tuple(_case(found, i, shown, corpus, contexts) for i in range(len(found.new)))
    browser = LatentBrowser(
        title="The latents of the cases",
        corpus=corpus,
        saes=(
            LatentPages.of(
                "case study", shown.encoder, shown.decoder, contexts, labels=shown.labels
            ),
        ),
        sentence="New latents as they are in the extended SAE, old ones as they are in the "
        "control. Numbers count within this list; labels say which latent it is.",
    )
    return (table, *cases, browser)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shown:
    """Latents whose contexts are shown: new ones as extended, old ones as in the control."""

    control: SAE
    extended: SAE
    new: list[int]
    old: list[int]
    labels: tuple[str, ...]

    @classmethod
    def of(cls, control: SAE, extended: SAE, found: Handover) -> "_Shown":
        new, old = found.new.tolist(), sorted(set(found.old.flatten().tolist()))
        given: dict[int, list[str]] = {latent: [] for latent in old}
        for case, latent in enumerate(new):
            for other, loss in zip(
                found.old[case].tolist(), found.loss[case].tolist(), strict=True
            ):
                given[other].append(f"{_signed(loss)} to new {latent}")
        took = [
            f"new {latent}: from "
            + ", ".join(
                f"{other} ({_signed(loss)})"
                for other, loss in zip(
                    found.old[case].tolist(), found.loss[case].tolist(), strict=True
                )
            )
            for case, latent in enumerate(new)
        ]
        gave = [f"old {latent}: gave {', '.join(given[latent])}" for latent in old]
        return cls(control=control, extended=extended, new=new, old=old, labels=(*took, *gave))

    @property
    def encoder(self) -> Tensor:
        return torch.cat([self.extended.W_enc[0, self.new], self.control.W_enc[0, self.old]])

    @property
    def decoder(self) -> Tensor:
        return torch.cat([self.extended.W_dec[0, self.new], self.control.W_dec[0, self.old]])

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        x = x.to(self.control.W_enc)
        new, old = self.extended.encode(x)[0][:, self.new], self.control.encode(x)[0][:, self.old]
        return torch.cat([new, old], dim=1)

    def row(self, latent: int) -> int:
        """Where a latent stands in the list."""
        if latent in self.new:
            return self.new.index(latent)
        return len(self.new) + self.old.index(latent)


def _contexts(
    shown: _Shown, store: ActivationStore, scale: float, config: CaseConfig
) -> tuple[Corpus, LatentContexts]:
    part = store.part(0, min(store.n_rows, config.rows))
    wanted = sorted({int(c) for _, found, _ in part.in_order(65_536) for c in found.unique()})
    corpus = Corpus.of_documents(part.tokens_text(part.context(index)) for index in wanted)
    starts = torch.zeros(max(wanted) + 1, dtype=torch.int64)
    starts[torch.tensor(wanted)] = torch.from_numpy(corpus.documents)

    def rows() -> Iterator[tuple[Tensor, Tensor]]:
        for x, context, position in part.in_order(_ROWS_AT_ONCE):
            yield x.float() * scale, starts[context] + position

    found = latent_contexts(
        shown.encode,
        rows,
        corpus_length=len(corpus.ids),
        documents=corpus.documents,
        config=ContextConfig(contexts=config.contexts, before=config.before, after=config.after),
    )
    return corpus, found


def _table(found: Handover) -> MetricsTable:
    columns = (
        Column(key="loss", label="given", direction="none", digits=3,
               definition="Cosine with the new latent that the old one lost. Negative if it "
               "carried the absence of what the new latent stands for."),
        Column(key="before", label="in the control", direction="none", digits=3,
               definition="Cosine of the old latent of the control with the new one."),
        Column(key="after", label="in the extended", direction="none", digits=3,
               definition="Cosine of the same latent of the extended SAE with the new one."),
    )  # fmt: skip
    rows = [
        Row(
            name=f"old {old} → new {new}",
            kind="trained",
            cells={
                key: Cell(mean=float(getattr(found, key)[case, rank]))
                for key in ("loss", "before", "after")
            },
        )
        for case, new in enumerate(found.new.tolist())
        for rank, old in enumerate(found.old[case].tolist())
    ]
    return MetricsTable(
        title="Who gave most to whom",
        columns=columns,
        rows=tuple(rows),
        ranked=False,
        sentence="For each new latent the old ones that changed most along it, between the SAE "
        "that was trained on without new latents and the one that was trained on with them.",
    )


def _case(
    found: Handover, case: int, shown: _Shown, corpus: Corpus, contexts: LatentContexts
) -> Prose:
    new = int(found.new[case])
    row = shown.row(new)
    paragraphs = [f"new {new}, {_density(contexts, row)}\n{_lines(corpus, contexts, row)}"]
    for old, before, after in zip(
        found.old[case].tolist(),
        found.before[case].tolist(),
        found.after[case].tolist(),
        strict=True,
    ):
        row = shown.row(old)
        paragraphs.append(
            f"old {old}, cosine with it {_signed(before)} → {_signed(after)}, "
            f"{_density(contexts, row)}\n{_lines(corpus, contexts, row)}"
        )
    return Prose(title=f"New latent {new}", paragraphs=tuple(paragraphs), tone="verbatim")


def _density(contexts: LatentContexts, row: int) -> str:
    return f"fires on {contexts.density[row]:.2%}"


def _lines(corpus: Corpus, contexts: LatentContexts, row: int) -> str:
    """Each context on a line, the token on which the latent fires most in brackets."""
    peaks = [int(peak) for peak in contexts.peaks[row] if peak >= 0]
    return "\n".join(_line(corpus, contexts, peak) for peak in peaks) or "  never fires here"


def _line(corpus: Corpus, contexts: LatentContexts, peak: int) -> str:
    place = int(np.searchsorted(corpus.documents, peak, side="right"))
    ends = (*corpus.documents.tolist(), len(corpus.ids))
    start = max(peak - contexts.config.before, ends[place - 1])
    stop = min(peak + contexts.config.after + 1, ends[place])

    def text(first: int, last: int) -> str:
        return _flat(corpus.pieces[i] for i in corpus.ids[first:last])

    return f"  {text(start, peak)}[{text(peak, peak + 1)}]{text(peak + 1, stop)}"


def _flat(pieces: "Sequence[str] | Iterator[str]") -> str:
    return "".join(pieces).replace("\n", "⏎").replace("\t", " ")


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
