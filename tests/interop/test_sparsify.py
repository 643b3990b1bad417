"""We load what sparsify saves."""

import pytest

from latent_assay import formats
from latent_assay.errors import FormatError

from .agreement import ours_as_expected
from .environments import run

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sparsify")
    run("sparsify", "make", folder)
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("activation", ["topk", "groupmax"])
def test_we_load_what_sparsify_saves(activation, dtype, made):
    place = made / f"layers.{activation}-{dtype}"
    (reading,) = formats.read(place)
    assert ours_as_expected(reading.sae, place) is None
    assert (reading.format, reading.architecture, reading.dtype) == ("sparsify", activation, dtype)
    assert (reading.model, reading.hook_point) == ("EleutherAI/pythia-160m", place.name)


@pytest.mark.parametrize("kind", ["transcode", "skip"])
def test_transcoders_and_skips_are_refused(kind, made):
    with pytest.raises(FormatError, match=f"has {kind}.* = True and cannot be represented"):
        formats.load(made / f"layers.topk-float32-{kind}")
