"""Diagnoses made by hand, of any width, with a text that tries to break out of the page."""

import numpy as np

from latent_assay.diagnosis import COLUMNS, VERDICTS, Diagnosis, Relatives, Role, Tier, Verdict
from latent_assay.diagnosis.diagnosis import Advice
from latent_assay.diagnosis.evidence import Evidence
from latent_assay.diagnosis.judging import headline
from latent_assay.diagnosis.pages import DiagnosedSAE, ExcerptConfig, Excerpts
from latent_assay.report import Corpus
from tests.report.conftest import HOSTILE

CANDIDATES, BINS, GROUPS = 12, 40, 3
FAMILY = 8
"""Of every so many latents the first is the parent of the next three."""


def made_diagnosis(width: int, seed: int = 0, *, samples: int = 10_000) -> Diagnosis:
    generator = np.random.default_rng(seed)
    latents = np.arange(width)
    place = latents % FAMILY
    probabilities = 0.3 * generator.random((width, len(VERDICTS)))
    for verdict, which in (
        (Verdict.ABSORBED, place == 0),
        (Verdict.ABSORBING, (place > 0) & (place < 4)),
        (Verdict.HEDGED, place == 4),
        (Verdict.DEAD, place == 5),
        (Verdict.SEVERAL_PEAKS, place <= 1),
    ):
        column = VERDICTS.index(verdict)
        probabilities[which, column] = 0.55 + 0.44 * generator.random(int(which.sum()))
    clean, undecided = VERDICTS.index(Verdict.CLEAN), VERDICTS.index(Verdict.UNDECIDED)
    probabilities[:, [clean, undecided]] = 0
    probabilities[:, clean] = 1 - probabilities.max(axis=1)
    firings = generator.integers(30, samples // 4, width).astype(float)
    firings[place == 5] = 0
    firings[place == 6] = 3
    columns = {name: generator.random(width) for name in COLUMNS if name != "handed_over"}
    columns |= {"firings": firings, "density": firings / samples, "peaks": 1.0 + (place <= 1)}
    near = (latents[:, None] + np.arange(1, CANDIDATES + 1)) % width
    pairs = ("gain", "gained", "given", "overlap", "carried", "holes")
    drawings = {
        "near.latent": near,
        "near.cosine": -np.sort(-generator.random((width, CANDIDATES)), axis=1),
        **{f"near.{name}": generator.random((width, CANDIDATES)) for name in pairs},
        "histogram.count": generator.integers(0, 30, (width, BINS)).astype(np.int32),
        "histogram.top": 1 + generator.random(width),
        "mixture.weight": np.tile([0.5, 0.5, 0.0], (width, 1)),
        "mixture.mean": np.tile([0.4, 0.9, 0.0], (width, 1)),
        "mixture.sd": np.tile([0.1, 0.1, 0.0], (width, 1)),
    }
    return Diagnosis(
        evidence=Evidence(
            tier=Tier.ACTIVATIONS,
            width=width,
            n_samples=samples,
            columns=columns,
            relatives=_relatives(width, generator),
            drawings=drawings,
        ),
        scores=probabilities,
        probabilities=probabilities,
        chosen=headline(probabilities, firings),
        advice=(Advice(code="revive", text="Add an `AuxK` loss <b>.", latents=width // FAMILY),),
        provenance={"sae": "made </script> by hand"},
    )


def _relatives(width: int, generator: np.random.Generator) -> Relatives:
    entries = []
    for parent in range(0, width - FAMILY, FAMILY):
        for child in range(parent + 1, parent + 4):
            share = 0.9 - 0.2 * (child - parent)
            entries += [(parent, child, Role.CHILD, share), (child, parent, Role.PARENT, 0.4)]
        entries.append((parent + 4, -1, Role.HEDGED, -0.3))
    table = np.array(entries, dtype=float).reshape(-1, 4)
    order = np.lexsort((-np.abs(table[:, 3]), table[:, 2], table[:, 0]))
    latent, other, role = (table[order, i].astype(np.int64) for i in range(3))
    return Relatives(latent=latent, other=other, role=role, share=table[order, 3])


def made_excerpts(
    diagnosis: Diagnosis, corpus: Corpus, seed: int = 0, config: ExcerptConfig | None = None
) -> Excerpts:
    """Two places for each latent that fired, one for each parent and child."""
    config = config or ExcerptConfig()
    generator = np.random.default_rng(seed)
    window, n = config.window, len(corpus.ids)
    odd = [piece in HOSTILE for piece in corpus.pieces]
    odd_places = np.flatnonzero(np.array(odd)[corpus.ids])
    odd_places = odd_places[(odd_places >= config.before) & (odd_places < n - config.after)]

    def places(count: int) -> np.ndarray:
        return generator.integers(config.before, n - config.after, count)

    def levels(*shape: int) -> np.ndarray:
        found = generator.integers(0, 120, (*shape, window)) * (generator.random(window) < 0.3)
        found[..., config.before] = 126
        return found.astype(np.int8)

    latent = np.flatnonzero(diagnosis.evidence.columns["firings"] > 0).repeat(2)
    position = places(len(latent))
    position[: len(odd_places)] = odd_places[: len(position)]
    relatives = diagnosis.evidence.relatives
    child = relatives.role == int(Role.CHILD)
    hole = levels(int(child.sum()), 2)
    hedger = np.flatnonzero(diagnosis.found(Verdict.HEDGED)).repeat(4)
    hole[:, 0, config.before] = 0
    return Excerpts(
        config=config,
        corpus=corpus,
        scale=diagnosis.evidence.drawings["histogram.top"].astype(np.float32),
        example_latent=latent,
        example_position=position,
        example_level=levels(len(latent)),
        hole_parent=relatives.latent[child],
        hole_child=relatives.other[child],
        hole_position=places(int(child.sum())),
        hole_asked=(0.5 + generator.random(int(child.sum()))).astype(np.float32),
        hole_level=hole,
        hedge_latent=hedger,
        hedge_present=np.tile([True, True, False, False], len(hedger) // 4),
        hedge_position=places(len(hedger)),
        hedge_level=levels(len(hedger)),
    )


def made_saes(corpus: Corpus, width: int, names: tuple[str, ...]) -> tuple[DiagnosedSAE, ...]:
    found = []
    for seed, name in enumerate(names):
        diagnosis = made_diagnosis(width, seed)
        text = made_excerpts(diagnosis, corpus, seed)
        found.append(DiagnosedSAE(name=name, diagnosis=diagnosis, excerpts=text))
    return tuple(found)
