"""Images from what a user names."""

from pathlib import Path

from latent_assay.activations.images.digits import Digits
from latent_assay.activations.images.folder import ImageFolder
from latent_assay.activations.images.labelled import LabelledImages


def labelled_images(
    source: str | Path, *, size: int | None = None, grey: bool = False
) -> LabelledImages:
    """Images from a folder whose subfolders are classes, or scikit-learn's digits.

    **Arguments:**
    - `source`: a folder, or `"digits"`: 1,797 handwritten digits of 8 × 8 pixels, which come with
      scikit-learn.
    - `size`: height and width to which images of a folder are brought, 224 if None; digits keep
      theirs.
    - `grey`: read a folder's images without colour.

    **Raises:** `DataError` if there is no such folder or it holds no classes, `ConfigError` for an
    impossible size, `MissingExtra` without Pillow or scikit-learn.
    """
    if source == "digits":
        return Digits()
    return ImageFolder(source, size=224 if size is None else size, grey=grey)
