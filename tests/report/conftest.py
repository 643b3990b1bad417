"""A report as a run would make it, with a corpus that tries to break out of the page."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from latent_assay.report import (
    Cell,
    Column,
    ContextConfig,
    Corpus,
    CosineMap,
    CosineMaps,
    Firing,
    FiringTable,
    Histogram,
    LatentBrowser,
    LatentPages,
    MetricsTable,
    Prose,
    Report,
    Row,
    TrainingCurves,
    latent_contexts,
)

ARGUMENTS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "<!--<script>",
    "javascript:alert(3)",
    "]]>&lt;b&gt;",
    "\u202egnirts",
    " 👩‍🔬🧪",
    " שלום",
    " مرحبا",
    " 雪",
    "\n\n",
    "\t",
    "\u2028",
    "\ud83d",  # half an emoji, as a byte-level tokenizer can give
)
SENTENCES = (
    "the assay of the silver coin found copper under a thin bright skin",
    "in the morning the river carried ice past the old mill and the bridge",
    "she wrote the proof again and the second lemma finally made sense",
    "a small bank raised its rates after the market closed on Friday",
    "the model learned to count letters but never to spell the word",
    "researchers measured the firing of every latent on the held out text",
    "he boiled the rice with cardamom and a little salt and butter",
    "no one had told the captain that the harbour was closed for repairs",
    "the parent feature fires whenever one of its children does",
    "when the lights went out the orchestra kept playing from memory",
)
NAMES = ("matryoshka", "TopK <k=32> & friends")


def make_corpus(generator: np.random.Generator, documents: int, length: int) -> Corpus:
    texts = []
    for _ in range(documents):
        pieces: list[str] = ["<bos>"]
        while len(pieces) < length:
            sentence = SENTENCES[generator.integers(len(SENTENCES))].split()
            pieces += [f" {word}" for word in sentence] + ["."]
            if generator.random() < 0.25:
                pieces.append(HOSTILE[generator.integers(len(HOSTILE))])
        texts.append(pieces[:length])
    return Corpus.of_documents(texts)


def make_pages(
    name: str, corpus: Corpus, *, width: int, d_in: int, seed: int, contexts: int = 8
) -> LatentPages:
    """Latents that read one piece each (and a little of its neighbours), a tenth of them dead."""
    generator = torch.Generator().manual_seed(seed)
    pieces = len(corpus.pieces)
    meaning = torch.nn.functional.normalize(torch.randn(pieces, d_in, generator=generator), dim=-1)
    ids = torch.from_numpy(corpus.ids)
    gain = 0.6 + 0.8 * torch.rand(len(ids), 1, generator=generator)
    x = meaning[ids] * gain
    x[1:] += 0.45 * meaning[ids[:-1]]
    decoder = meaning[torch.randint(pieces, (width,), generator=generator)]
    decoder = decoder + 0.05 * torch.randn(width, d_in, generator=generator)
    encoder = decoder + 0.06 * torch.randn(width, d_in, generator=generator)
    bias = 0.35 + 0.3 * torch.rand(width, generator=generator)
    bias[::10] = 50.0
    position = torch.arange(len(ids))
    keep = torch.ones(len(ids), dtype=torch.bool)
    keep[torch.from_numpy(corpus.documents)] = False  # <bos>

    def rows():
        for part in torch.split(torch.nonzero(keep)[:, 0], 2048):
            yield x[part], position[part]

    found = latent_contexts(
        lambda rows: torch.relu(rows @ encoder.mT - bias),
        rows,
        corpus_length=len(ids),
        documents=corpus.documents,
        config=ContextConfig(contexts=contexts),
    )
    labels = ["dead" if d == 0 else "" for d in found.density]
    for i in range(3, width, 17):
        labels[i] = labels[i] or ("absorbed" if i % 2 else "duplicate")
    return LatentPages.of(name, encoder, decoder, found, labels=labels)


def make_history(generator: np.random.Generator, members: int, floor: float) -> SimpleNamespace:
    steps = np.arange(0, 200_000, 1_000)
    decay = np.exp(-steps / 40_000)[:, None]

    def noise(scale: float) -> np.ndarray:
        return 1 + scale * generator.standard_normal((len(steps), members))

    return SimpleNamespace(
        steps=steps,
        members=members,
        values={
            "loss": (floor + 2.2 * decay) * noise(0.04),
            "L0": (32 + 200 * decay) * noise(0.05),
            "dead_latents": np.maximum(0, (1 - decay) * 40 * floor * noise(0.2)),
        },
    )


def make_maps(generator: np.random.Generator) -> tuple[CosineMap, ...]:
    def noisy(values: np.ndarray) -> np.ndarray:
        return np.clip(values + 0.03 * generator.standard_normal(values.shape), -1, 1)

    clean = np.eye(6)
    absorbed_decoder, absorbed_encoder = np.eye(6), np.eye(6)
    absorbed_decoder[1:4, 0] = 0.68
    absorbed_decoder[1:4] /= np.linalg.norm(absorbed_decoder[1:4], axis=1, keepdims=True)
    absorbed_encoder[0, 1:4] = -0.52
    absorbed_encoder[0] /= np.linalg.norm(absorbed_encoder[0])
    hedged = np.eye(6)
    hedged[0, 1:4] = 0.38
    hedged[0] /= np.linalg.norm(hedged[0])
    order = generator.permutation(6)
    return (
        CosineMap(
            name="plain",
            encoder=noisy(absorbed_encoder)[order],
            decoder=noisy(absorbed_decoder)[order],
            sentence="Absorption: the parent's encoder row turns away from each child.",
        ).arranged(),
        CosineMap(name="tied", decoder=noisy(clean), sentence="Tied weights recover the truth."),
        CosineMap(
            name="matryoshka",
            encoder=noisy(hedged),
            decoder=noisy(hedged),
            sentence="No absorption, but the inner level hedges.",
        ),
        CosineMap(
            name="balance",
            encoder=noisy(clean),
            decoder=noisy(clean),
            sentence="Balanced levels: neither.",
        ),
    )


def make_table(generator: np.random.Generator) -> MetricsTable:
    def row(name, kind, note="", members=5, **means):
        cells = {
            key: Cell.over(mean + spread * generator.standard_normal(members))
            for key, (mean, spread) in means.items()
        }
        return Row(name=name, kind=kind, note=note, cells=cells)

    return MetricsTable(
        title="Metrics",
        sentence="Five members each, measured on 200,000 held-out samples.",
        columns=(
            Column(
                key="explained_variance",
                label="explained variance",
                direction="higher",
                digits=3,
                charted=True,
                definition="Share of the activations' variance about their mean that the "
                "reconstruction keeps. Predicting the mean scores 0.",
            ),
            Column(
                key="l0",
                label="L0",
                direction="none",
                digits=1,
                definition="Mean number of latents that fire on an activation.",
            ),
            Column(
                key="mcc",
                label="MCC",
                direction="higher",
                charted=True,
                definition="Mean cosine between true features and the latents matched to them "
                "one to one.",
            ),
            Column(
                key="absorption",
                label="absorption",
                direction="lower",
                charted=True,
                definition="How often a parent's latent is silent although the parent is there, "
                "while a child's latent writes it.",
            ),
            Column(
                key="loss",
                label="CE loss increase",
                unit="nats",
                direction="lower",
                digits=4,
                definition="What the model's loss rises by when it reads reconstructions.",
            ),
        ),
        rows=(
            row(
                NAMES[0], "trained", "width 4,096", explained_variance=(0.853, 0.003),
                l0=(32.1, 0.2), mcc=(0.91, 0.006), absorption=(0.021, 0.004), loss=(0.041, 0.002),
            ),
            row(
                NAMES[1], "trained", "width 4,096", explained_variance=(0.857, 0.004),
                l0=(32.0, 0.1), mcc=(0.84, 0.008), absorption=(0.188, 0.02), loss=(0.039, 0.003),
            ),
            row(
                "balance", "trained", "width 4,096", explained_variance=(0.848, 0.003),
                l0=(31.8, 0.3), mcc=(0.87, 0.01), absorption=(0.45, 0.03), loss=(0.044, 0.002),
            ),
            row(
                "frozen decoder", "baseline", explained_variance=(0.71, 0.01), l0=(32.0, 0.1),
                mcc=(0.31, 0.01), absorption=(0.44, 0.02), loss=(0.32, 0.01),
            ),
            row("PCA", "baseline", "rank 32", 1, explained_variance=(0.62, 0.0), mcc=(0.22, 0.0)),
            row(
                "true features", "oracle", "", 1, explained_variance=(0.931, 0.0), l0=(31.2, 0.0),
                mcc=(1.0, 0.0), absorption=(0.0, 0.0),
            ),
        ),
    )  # fmt: skip


def make_report(*, documents: int = 60, length: int = 128, width: int = 300) -> Report:
    generator = np.random.default_rng(0)
    corpus = make_corpus(generator, documents, length)
    pages = tuple(
        make_pages(name, corpus, width=width, d_in=48, seed=seed) for seed, name in enumerate(NAMES)
    )
    features = ("animal", "dog", "cat", "horse", "red", "blue")
    firing = np.clip(0.95 * np.eye(6) + 0.04 * generator.random((6, 6)), 0, 1)
    return Report(
        title="Do matryoshka levels cure absorption? <script>alert(0)</script>",
        summary="On a tree of features, the matryoshka SAE keeps its parent latents firing; TopK "
        "loses them in a fifth of all cases.\n\nBoth hedge when they are narrower than the world.",
        created="12 May 2026, 14:03 UTC",
        provenance={
            "latent-assay": "0.1.0",
            "world": {"name": "tree of 20 features", "hash": "9f3a1c", "d_in": 50},
            "seeds": [0, 1, 2, 3, 4],
            "command": "assay run tree.json --out '<b>report</b>'",
        },
        sections=(
            Prose(
                title="What was found",
                paragraphs=(
                    "Absorption hides in good reconstruction: TopK explains as much variance as "
                    "matryoshka while a fifth of its parents fall silent.",
                ),
                tone="note",
            ),
            Prose(
                title="The world",
                paragraphs=("0 (rate 0.25)\n├─ 1 (rate 0.0375)\n└─ 2 (rate 0.0375)",),
                tone="verbatim",
            ),
            make_table(generator),
            TrainingCurves.of(
                {
                    NAMES[0]: make_history(generator, 5, 0.12),
                    NAMES[1]: make_history(generator, 5, 0.09),
                    "balance": make_history(generator, 1, 0.2),
                },
                metrics={
                    "loss": "Reconstruction and sparsity together, as it is minimised.",
                    "L0": "Mean number of firing latents.",
                    "dead_latents": "Latents that have not fired for 1,000 steps.",
                },
                step_label="samples",
            ),
            Histogram.of_densities({page.name: page.contexts.density for page in pages}),
            CosineMaps(
                title="Which latent is which feature",
                sentence="Four SAEs trained on the same world: an animal, its three children, and "
                "two colours.",
                maps=make_maps(generator),
                features=features,
            ),
            FiringTable(
                title="What fires with what",
                tables=(Firing(name="tied", probabilities=firing, sentence="One latent each."),),
                features=features,
            ),
            LatentBrowser(
                corpus=corpus,
                saes=pages,
                sentence="Every latent with the places in the text where it fires most.",
            ),
        ),
    )


@pytest.fixture(scope="session")
def report() -> Report:
    return make_report()


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"none of {', '.join(names)} is installed; try: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()
