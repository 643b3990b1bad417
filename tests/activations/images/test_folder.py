"""Folders of images, and digits."""

import re

import pytest
import torch

from latent_assay.activations.images import labelled_images
from latent_assay.errors import ConfigError, DataError, MissingExtra


def test_subfolders_are_classes(pictures):
    images = labelled_images(pictures, size=8)
    assert images.classes == ("apple", "brick", "cloud")
    assert len(images) == 24
    assert images.labels.bincount().tolist() == [8, 8, 8]
    for number in range(24):
        pixels = images[number]
        assert pixels.shape == (3, 8, 8)
        assert pixels.dtype == torch.uint8
    coloured = torch.stack([images[number].float().mean((1, 2)) for number in range(24)])
    is_grey = (coloured.amax(1) - coloured.amin(1)) < 10
    assert is_grey.sum() == 6  # the two that were saved without colour, of each class
    assert torch.equal(coloured.argmax(1)[~is_grey], images.labels[~is_grey])


def test_grey(pictures):
    images = labelled_images(pictures, size=16, grey=True)
    assert images[0].shape == (1, 16, 16)
    assert images.describe()["channels"] == 1


def test_the_middle_is_cut_out(tmp_path):
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        image = Image.new("RGB", (48, 16))
        image.paste((255, 255, 255), (16, 0, 32, 16))
        image.save(tmp_path / name / "wide.png")
    pixels = labelled_images(tmp_path, size=16)[0]
    assert (pixels == 255).all()


def test_description_tells_folders_apart(pictures):
    first = labelled_images(pictures, size=8).describe()
    assert labelled_images(pictures, size=8).describe() == first
    assert labelled_images(pictures, size=9).describe() != first
    (pictures / "apple" / "4.png").write_bytes(b"other")
    assert labelled_images(pictures, size=8).describe()["hash"] != first["hash"]
    assert str(pictures.parent) not in str(first)


def test_digits():
    images = labelled_images("digits")
    assert (len(images), images[0].shape, len(images.classes)) == (1797, (1, 8, 8), 10)
    stacked = torch.stack([images[number] for number in range(100)])
    assert stacked.max() == 255
    assert stacked.min() == 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (b"", "cannot be read as an image"),
        (b"\x89PNG\r\n\x1a\n then nothing", "cannot be read as an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\nshowpage", "cannot be read as an image"),
    ],
)
def test_damaged_files_are_named(pictures, damage, message):
    (pictures / "apple" / "0.png").write_bytes(damage)
    images = labelled_images(pictures, size=8)
    found = [number for number in range(8) if _fails(images, number)]
    assert len(found) == 1
    with pytest.raises(DataError, match=rf"0\.png'.*{message}"):
        images[found[0]]


def _fails(images, number: int) -> bool:
    try:
        images[number]
    except DataError:
        return True
    return False


def test_huge_pictures_are_refused(pictures, monkeypatch):
    from PIL import Image

    images = labelled_images(pictures, size=8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(DataError, match="cannot be read as an image"):
        images[0]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: labelled_images(p / "nowhere"), DataError, "there is no folder of images"),
        (lambda p: labelled_images(p / "apple"), DataError, "has 1 subfolders with images"),
        (lambda p: labelled_images(p, size=4), ConfigError, "expected at least 8 pixels"),
    ],
)
def test_what_cannot_be_read(pictures, make, error, message):
    with pytest.raises(error, match=message):
        make(pictures)


def test_missing_packages_say_what_to_install(pictures, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    for source in (pictures, "digits"):
        with pytest.raises(MissingExtra, match=re.escape("pip install 'latent-assay[images]'")):
            labelled_images(source)
