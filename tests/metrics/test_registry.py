import re
from pathlib import Path

import pytest
import torch

import latent_assay.metrics as metrics_package
from latent_assay.errors import ConfigError
from latent_assay.metrics import (
    METRICS,
    Classification,
    NthDecoderProjection,
    Reconstruction,
    Sparsity,
    decoder_pairwise_cosine,
    encoder_decoder_cosine,
    mcc,
    metric,
    mmcs,
    uniqueness,
)

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def measured_names(generator):
    """The name of every headline number that something in the package computes."""
    x, z = torch.randn(5, 3, generator=generator), torch.ones(1, 5, 2)
    reconstruction, sparsity, classification = Reconstruction(), Sparsity(), Classification()
    reconstruction.update(x, x[None])
    sparsity.update(z)
    classification.update(z, torch.ones(5, 2, dtype=torch.bool))
    projection = NthDecoderProjection(torch.randn(1, 4, 3, generator=generator))
    projection.update(x)
    feature = torch.zeros(1, 2, dtype=torch.int64)
    results = [
        reconstruction.result(),
        sparsity.result(),
        projection.result(),
        classification.result(),
        classification.result(feature, chosen_by="match"),
        classification.result(feature, chosen_by="cosine"),
    ]
    names = {name for result in results for name in result.metrics()}
    functions = (mmcs, mcc, uniqueness, encoder_decoder_cosine, decoder_pairwise_cosine)
    return names | {function.__name__ for function in functions} | {"mcc_signed"}


def test_every_headline_number_is_registered_and_every_entry_is_measured(generator):
    assert measured_names(generator) == set(METRICS)


def test_entries_are_complete():
    for name, entry in METRICS.items():
        assert entry.name == name
        assert entry.id == f"{name}/v{entry.version}"
        assert entry.direction in ("higher", "lower", "neutral")
        assert entry.unit
        assert entry.definition.endswith(".")
        assert entry.definition.count(". ") == 0, f"{name}: one sentence"


def test_the_registry_cannot_be_changed():
    with pytest.raises(TypeError):
        METRICS["fvu"] = METRICS["mse"]


def test_an_unknown_name_is_explained():
    assert metric("fvu") is METRICS["fvu"]
    with pytest.raises(ConfigError, match=r"no metric `fuv`; .* Did you mean `fvu`"):
        metric("fuv")


def test_the_page_defines_every_metric_in_the_registrys_words():
    page = PAGE.read_text(encoding="utf-8")
    rows = {row.split("`")[1]: row for row in page.splitlines() if row.startswith("| `")}
    for name, entry in METRICS.items():
        assert name in rows, f"docs/metrics.md has no row for {name}"
        cells = [cell.strip() for cell in rows[name].strip("|").split(" | ")]
        assert cells[1] == f"v{entry.version}", name
        assert cells[2] == entry.direction, name
        assert cells[3] == entry.unit, name
        assert cells[4] == entry.definition.replace("|", "\\|"), name


def test_the_page_names_everything_public():
    page = PAGE.read_text(encoding="utf-8")
    missing = [name for name in metrics_package.__all__ if f"`{name}" not in page]
    assert not missing


def test_the_public_surface_is_sorted_and_exists():
    names = metrics_package.__all__
    assert names == sorted(
        names, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )
    for name in set(names) - {"METRICS"}:
        assert getattr(metrics_package, name).__doc__


def test_the_code_on_the_page_runs(capsys):
    page = PAGE.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL))
    assert code
    names: dict[str, object] = {}
    exec(code, names)
    assert "(6)" in capsys.readouterr().out
    assert names["by_match"].macro_f1.item() == 1.0
