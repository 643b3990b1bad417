"""A folder of images, with a subfolder for each class."""

import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from latent_assay.activations.images.labelled import LabelledImages
from latent_assay.errors import ConfigError, DataError, require

# By suffix, and what Pillow may take them for: no format that runs a program of its own.
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF")


class ImageFolder(LabelledImages):
    """Every image below the subfolders of a folder; a subfolder is a class.

    Classes are in the order of their names, images in that of their paths. An image is brought to a
    square: resized so that its shorter side fits, the middle cut out. Files are read when they are
    asked for, so memory does not grow with the folder.

    **Arguments:**
    - `folder`: the folder.
    - `size`: height and width of the square.
    - `grey`: one channel instead of red, green and blue.

    **Raises:** `DataError` if there are no two classes with images; `ConfigError` for a size below
    8; `MissingExtra` without Pillow.
    """

    def __init__(self, folder: str | Path, *, size: int = 224, grey: bool = False) -> None:
        self._image = require("PIL.Image", extra="images", purpose="reading images")
        self._bombs = (self._image.DecompressionBombError, self._image.DecompressionBombWarning)
        folder = Path(folder).expanduser()
        if size < 8:
            raise ConfigError(f"images of size {size} were asked for; expected at least 8 pixels.")
        if not folder.is_dir():
            raise DataError(
                f"there is no folder of images '{folder}'. Give a folder with a subfolder for each "
                'class, or "digits".'
            )
        files: list[Path] = []
        labels: list[int] = []
        classes: list[str] = []
        for place in sorted(each for each in folder.iterdir() if each.is_dir()):
            found = sorted(
                each
                for each in place.rglob("*")
                if each.suffix.lower() in _SUFFIXES and each.is_file()
            )
            if found:
                labels += [len(classes)] * len(found)
                classes.append(place.name)
                files += found
        if len(classes) < 2:
            raise DataError(
                f"the folder '{folder}' has {len(classes)} subfolders with images "
                f"({', '.join(sorted(_SUFFIXES))}); expected one for each class, at least two. "
                "Move the images of each class into a folder of their own."
            )
        self.name = folder.name
        self.classes = tuple(classes)
        self.labels = torch.tensor(labels, dtype=torch.int64)
        self.channels, self.size = 1 if grey else 3, size
        self._files = files
        self._folder = folder

    def __getitem__(self, number: int) -> UInt8[Tensor, "channel height width"]:
        """The pixels of an image.

        **Raises:** `DataError` naming the file if it is damaged, or too large to be a picture.
        """
        path = self._files[number]
        try:
            with self._opened(path) as image:
                # a JPEG can be decoded at a fraction of its size, which is many times faster
                image.draft("L" if self.channels == 1 else "RGB", (self.size, self.size))
                image = image.convert("L" if self.channels == 1 else "RGB")
                scale = self.size / min(image.size)
                width, height = (max(self.size, round(scale * side)) for side in image.size)
                image = image.resize((width, height), self._image.Resampling.BICUBIC)
                left, top = (width - self.size) // 2, (height - self.size) // 2
                image = image.crop((left, top, left + self.size, top + self.size))
                pixels = np.array(image, dtype=np.uint8)
        except (OSError, ValueError, SyntaxError, *self._bombs) as error:
            raise DataError(
                f"'{path}' cannot be read as an image: {error}. Remove the file, or replace it."
            ) from error
        return torch.from_numpy(pixels).reshape(self.size, self.size, -1).permute(2, 0, 1)

    def _opened(self, path: Path) -> Any:
        with warnings.catch_warnings():
            # what Pillow only warns of, a picture of more than 89 million pixels, is refused
            warnings.simplefilter("error", self._image.DecompressionBombWarning)
            return self._image.open(path, formats=_FORMATS)

    def describe(self) -> dict[str, Any]:
        """Name, size and channels, and a hash of the files' names and lengths."""
        digest = hashlib.sha256()
        for path in self._files:
            name = path.relative_to(self._folder).as_posix()
            digest.update(f"{name} {path.stat().st_size}\n".encode("utf-8", "surrogatepass"))
        return {
            "name": self.name,
            "size": self.size,
            "channels": self.channels,
            "images": len(self),
            "hash": digest.hexdigest()[:32],
        }
