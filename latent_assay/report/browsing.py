"""A browser of latents made from stored activations."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from latent_assay.activations import ActivationStore
from latent_assay.report.contexts import ContextConfig, latent_contexts
from latent_assay.report.latents import Corpus, LatentBrowser, LatentPages
from latent_assay.sae import SAE

_ROWS_AT_ONCE = 2_048
_SHOWN = ContextConfig(contexts=10, before=16, after=9)


def browser_of(
    store: ActivationStore | Mapping[str, ActivationStore],
    saes: Mapping[str, SAE],
    *,
    labels: Mapping[str, Sequence[str]] | None = None,
    config: ContextConfig = _SHOWN,
    title: str = "Latents",
    advance: Callable[[], object] | None = None,
) -> LatentBrowser:
    """Where the latents of some SAEs fire most, over everything in a store.

    **Arguments:**
    - `store`: harvested activations, or those of each SAE's hook point by the SAE's name, all of
      one harvest; give a part (`ActivationStore.part`) to bound time and size.
    - `saes`: by name, for raw activations; of each the first member is shown.
    - `labels`: a word for each latent of an SAE, by which the page filters.
    - `config`: how much to keep for each latent.
    - `title`: the section's heading.
    - `advance`: called after each SAE.

    **Raises:** `DataError` if the store has no text.
    """
    stores = dict(store) if isinstance(store, Mapping) else dict.fromkeys(saes, store)
    places = {id(each): each for each in stores.values()}.values()
    wanted = sorted({int(c) for each in places for c in _contexts(each)})
    first_of_all = stores[next(iter(saes))]
    corpus = Corpus.of_documents(
        [first_of_all.tokens_text(first_of_all.context(index)) for index in wanted]
    )
    starts = torch.zeros(max(wanted) + 1, dtype=torch.int64)
    starts[torch.tensor(wanted)] = torch.from_numpy(corpus.documents)

    pages = []
    for name, sae in saes.items():
        first = sae.take(0)

        def rows(store: ActivationStore = stores[name]) -> Iterator[tuple[Tensor, Tensor]]:
            for x, context, position in store.in_order(_ROWS_AT_ONCE):
                yield x.float(), starts[context] + position

        @torch.no_grad()
        def encode(x: Tensor, sae: SAE = first) -> Tensor:
            return sae.encode(x)[0].to_sparse()

        found = latent_contexts(
            encode,
            rows,
            corpus_length=len(corpus.ids),
            documents=corpus.documents,
            config=config,
        )
        pages.append(
            LatentPages.of(
                name, first.W_enc[0], first.W_dec[0], found, labels=(labels or {}).get(name)
            )
        )
        if advance is not None:
            advance()
    return LatentBrowser(
        corpus=corpus,
        saes=tuple(pages),
        title=title,
        sentence=(
            "Every latent with the places where it fires most, among the first "
            f"{max(each.n_rows for each in places):,} tokens. Tokens are shaded by the latent's "
            "activation; the underlined one is the peak."
        ),
    )


def _contexts(store: ActivationStore) -> set[int]:
    """Numbers of the contexts that rows of a store are from."""
    return {int(c) for _, context, _ in store.in_order(65_536) for c in context.unique()}
