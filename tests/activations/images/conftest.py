import numpy as np
import pytest

from latent_assay.activations.images import AugmentationConfig, NetworkConfig, PretrainingConfig

SMALL = {
    "network": NetworkConfig(channels=(4, 8), depths=(1, 1), hidden=16, out=12),
    "pretraining": PretrainingConfig(epochs=3, batch_size=8, warm_up_epochs=1),
    "augmentation": AugmentationConfig(flip=False),
    "progress": False,
}


@pytest.fixture
def pictures(tmp_path):
    """Three classes of small pictures, in formats and sizes that differ."""
    from PIL import Image

    generator = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    for number, name in enumerate(("apple", "brick", "cloud")):
        inner = folder / name / "below"
        inner.mkdir(parents=True)
        for each in range(8):
            size = (12 + each, 20) if each % 2 else (16, 16)
            colour = generator.integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
            colour[..., number] += 150
            image = Image.fromarray(colour)
            match each % 4:
                case 0:
                    image.save(inner / f"{each}.png")
                case 1:
                    image.save(inner / f"{each}.JPG", quality=95, format="JPEG")
                case 2:
                    image.convert("L").save(inner / f"{each}.bmp")
                case 3:
                    image.convert("P").save(folder / name / f"{each}.gif")
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("no picture")
    (folder / "apple" / "notes.txt").write_text("no picture")
    return folder
