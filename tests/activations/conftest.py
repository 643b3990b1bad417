import functools

import pytest

from latent_assay.activations import LanguageModel, bundled_minilm
from tests.activations import tiny_models


@pytest.fixture(scope="session")
def minilm():
    return LanguageModel.load(bundled_minilm())


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """`tiny(family)`: a small random model of a family, made once."""

    @functools.cache
    def load(family):
        folder = tiny_models.save(tmp_path_factory.mktemp("models") / family, family)
        return LanguageModel.load(folder)

    return load
