"""Activations of images, with their labels: semantic consistency as a score and in the report."""

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from latent_assay.activations import images as image_activations
from latent_assay.activations.images import (
    AugmentationConfig,
    ImageFeatures,
    NetworkConfig,
    PretrainingConfig,
)
from latent_assay.baselines import random_dictionary
from latent_assay.errors import FormatError
from latent_assay.evals import SemanticConsistencyResult, consistency_of
from latent_assay.measurement import measure
from latent_assay.report import Cell, Column, MetricsTable, Row
from latent_assay.report.metrics_table import Kind
from latent_assay.runs.config.images import ImagesSource
from latent_assay.runs.data import Data, Request
from latent_assay.runs.stored_data import StoredData
from latent_assay.sae import SAE

_SEEDS = (0, 1, 2)
_EXCERPT = 20_000


class ImagesData(StoredData):
    """Activations of images; the network has seen those that SAEs are trained on, not the rest."""

    def __init__(self, found: ImageFeatures, source: ImagesSource):
        self.found = found
        self.store = found.store
        self.browsed = 0
        self.train_store = found.store.part(0, found.n_train)
        self.test_store = found.store.part(found.n_train, found.store.n_rows)
        self.d_in = found.store.d_in
        self.scale = self.train_store.normalising_scale if source.normalise else 1.0
        self.top = source.top

    def scored(self, name: str) -> Float[Tensor, " d_in"] | None:
        """`variance`, and `semantic_consistency` of each dimension on the images of training.

        The latter looks at labels; it is the top-activated one, as a dimension of the backbone
        fires on all images. A dimension that never fires scores 0.
        """
        if name != "semantic_consistency":
            return super().scored(name)
        x = self.train_store.rows(0, self.train_store.n_rows).float()
        found = self._consistency(None, x, self.found.labels[: self.found.n_train])
        return found.top_share[0].nan_to_num(0.0).float()

    def sections(self, saes: Sequence[tuple[str, SAE]]) -> list[MetricsTable]:
        """The table of semantic consistency, before and after."""
        x = self.test_store.rows(0, self.test_store.n_rows).float()
        labels = self.found.labels[self.found.n_train :]
        first = saes[0][1]
        l0 = float(measure(first, self.held_out()).metrics["l0"].mean())
        drawn = random_dictionary(
            self.excerpt(_EXCERPT), width=max(first.widths), l0=l0, seeds=_SEEDS
        )
        measured: list[tuple[str, Kind, SAE | None]] = [
            *((name, "trained", sae) for name, sae in saes),
            ("input dimensions, before", "baseline", None),
            ("random dictionary", "baseline", drawn),
        ]
        rows = []
        for name, kind, sae in measured:
            cells = _cells(self._consistency(sae, x, labels))
            if sae is not None:
                cells["fvu"] = Cell.over(measure(sae, self.held_out()).metrics["fvu"].tolist())
            rows.append(Row(name=name, kind=kind, cells=cells))
        return [
            MetricsTable(
                title="Semantic consistency, before and after",
                columns=_COLUMNS,
                rows=tuple(rows),
                sentence=(
                    f"On {len(x):,} images of {len(self.found.classes)} classes that neither the "
                    "network nor an SAE was trained on: do the images on which a latent fires "
                    f"belong to one class? Of the {self.top} on which it fires most strongly, and "
                    "of all. A latent that fires on few images scores high by chance, so beside "
                    "each number stands what permuted labels give."
                ),
            )
        ]

    def _consistency(self, sae: SAE | None, x: Tensor, labels: Tensor) -> SemanticConsistencyResult:
        return consistency_of(sae, x, labels, classes=len(self.found.classes), top=self.top)

    def provenance(self) -> dict[str, object]:
        """The features' manifest."""
        manifest = self.found.manifest
        return {
            "images": manifest["request"],
            "layer": manifest["layer"],
            "contrastive loss of the last epoch": manifest["losses"][-1],
            "rows": self.store.n_rows,
            "rows measured on": self.test_store.n_rows,
            "training scale": self.scale,
        }


def open_images(request: Request) -> Mapping[str | None, Data]:
    """Pre-train the network of a run, or open what it has left.

    **Raises:** `FormatError` if it has not been trained and may not be.
    """
    source = request.config.source
    assert isinstance(source, ImagesSource)
    place = request.folder / "activations"
    if request.harvest:
        found = image_activations.image_features(
            image_activations.labelled_images(source.path, size=source.size, grey=source.grey),
            place,
            layer=source.layer,
            held_out=source.held_out,
            network=NetworkConfig(
                channels=source.channels, depths=source.depths, hidden=source.hidden, out=source.out
            ),
            pretraining=PretrainingConfig(
                epochs=source.epochs,
                batch_size=source.batch_size,
                lr=source.lr,
                weight_decay=source.weight_decay,
                warm_up_epochs=source.warm_up_epochs,
                temperature=source.temperature,
                seed=source.seed,
            ),
            augmentation=AugmentationConfig(
                smallest_crop=source.smallest_crop,
                rotation=source.rotation,
                flip=source.flip,
                jitter=source.jitter,
            ),
            device=source.device,
            workers=source.workers,
            progress=request.progress,
        )
    elif place.is_dir():
        found = image_activations.open_image_features(place)
    else:
        raise FormatError(
            f"'{request.folder}' holds no activations of images (a folder `activations`), so "
            "nothing can be measured; run `assay train` with its configuration first."
        )
    return {None: ImagesData(found, source)}


def _cells(result: SemanticConsistencyResult) -> dict[str, Cell]:
    return {
        column.key: Cell.over(getattr(result, column.key).double().tolist())
        for column in _COLUMNS
        if column.key != "fvu"
    }


def _columns() -> tuple[Column, ...]:
    columns = []
    for choice, label, samples in (
        ("top", "top-activated", "the images on which it fires most strongly"),
        ("all", "all-activated", "all images on which it fires"),
    ):
        columns += [
            Column(
                key=f"{choice}_activated",
                label=label,
                direction="higher",
                definition=f"Share of a latent's most frequent class among {samples}, mean over "
                "the latents that fire.",
                charted=choice == "top",
            ),
            Column(
                key=f"{choice}_chance",
                label="by chance",
                direction="none",
                definition="The same with permuted labels.",
            ),
            Column(
                key=f"{choice}_corrected",
                label="corrected",
                direction="higher",
                definition="How far of the way from chance to 1 a latent has come, mean over "
                "latents that fire on more than one image.",
            ),
        ]
    return (
        *columns,
        Column(
            key="n_active",
            label="active latents",
            direction="none",
            definition="Latents that fire on some of the images; the others are in no mean.",
            digits=0,
        ),
        Column(
            key="fvu",
            label="FVU",
            direction="lower",
            definition="Fraction of variance unexplained, without weights, on the same images.",
        ),
    )


_COLUMNS = _columns()
