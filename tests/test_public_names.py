"""The public surface: what `latent_assay` offers is what it says, and it is cheap to import."""

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import latent_assay

PACKAGES = sorted(
    module.name
    for module in pkgutil.iter_modules(latent_assay.__path__, "latent_assay.")
    if module.ispkg
)


@pytest.mark.parametrize("name", ["latent_assay", *PACKAGES])
def test_all_is_sorted_complete_and_true(name):
    package = importlib.import_module(name)
    exported = package.__all__
    assert list(exported) == sorted(exported, key=lambda word: (not word.isupper(), word)) or list(
        exported
    ) == sorted(exported)
    assert len(set(exported)) == len(exported)
    for word in exported:
        assert hasattr(package, word), f"{name}.__all__ names {word}, which does not exist"
        assert not word.startswith("_") or word == "__version__"


def test_every_public_object_is_documented():
    missing = []
    for name in ["latent_assay", *PACKAGES]:
        package = importlib.import_module(name)
        for word in package.__all__:
            thing = getattr(package, word)
            explains_itself = any(
                kind(thing) for kind in (inspect.isclass, inspect.isfunction, inspect.ismodule)
            )
            if explains_itself and not (inspect.getdoc(thing) or "").strip():
                missing.append(f"{name}.{word}")
    assert not missing, missing


def test_unknown_name_says_so():
    with pytest.raises(AttributeError, match=r"no attribute 'SEA'.*Did you mean `SAE`"):
        latent_assay.SEA  # noqa: B018


def test_import_costs_little_more_than_torch():
    """Heavy packages stay out; the time itself is a row of the benchmarks."""
    program = "import sys, latent_assay; print(*sorted(m.split('.')[0] for m in sys.modules))"
    loaded = set(subprocess.check_output([sys.executable, "-c", program], text=True).split())
    heavy = {"transformers", "datasets", "matplotlib", "scipy", "wandb", "click", "jinja2"}
    assert not loaded & (heavy | {"pydantic", "sklearn", "pandas", "playwright"})


def test_core_install_is_light():
    from importlib.metadata import requires

    core = [each for each in requires("latent-assay") or [] if "extra ==" not in each]
    names = {each.split(">")[0].split("=")[0].strip().lower() for each in core}
    assert not names & {"transformers", "datasets", "wandb", "huggingface-hub", "scikit-learn"}
