"""Where training writes its numbers while it runs: JSON lines, wandb, TensorBoard."""

import json
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from latent_assay.atomic import plain, storage_errors
from latent_assay.errors import require


@runtime_checkable
class Tracker(Protocol):
    """Receives the numbers of each logged step."""

    def write(self, record: dict[str, Any]) -> None:
        """Take one record: `step`, `samples`, and a list with one value per member for the rest."""

    def close(self) -> None:
        """No more records will come."""


class JsonLines:
    """One JSON object per line, appended to a file and flushed at once.

    **Raises:** `StorageError` if the file cannot be written.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Append a line."""
        with storage_errors(self.path):
            self._file.write(json.dumps(plain(record), allow_nan=False) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        with storage_errors(self.path):
            self._file.close()


class Wandb:
    """Weights & Biases; needs the extra `track`.

    **Arguments:**
    - `project`, `name`: as wandb knows them.
    - `mode`: "offline" writes to the disk only.
    """

    def __init__(self, project: str, name: str | None = None, mode: str = "offline"):
        wandb = require("wandb", extra="track", purpose="tracking with Weights & Biases")
        self._run = wandb.init(project=project, name=name, mode=mode)

    def write(self, record: dict[str, Any]) -> None:
        """Log one value per member, as `name/member`."""
        self._run.log(_flat(record), step=record["step"])

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class TensorBoard:
    """TensorBoard event files; needs the extra `track`."""

    def __init__(self, folder: str | Path):
        require("tensorboard", extra="track", purpose="tracking with TensorBoard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def write(self, record: dict[str, Any]) -> None:
        """Log one value per member, as `name/member`."""
        for name, value in _flat(record).items():
            self._writer.add_scalar(name, value, record["step"])

    def close(self) -> None:
        """Close the files."""
        self._writer.close()


def _flat(record: dict[str, Any]) -> dict[str, float]:
    return {
        f"{name}/{member}": value
        for name, values in record.items()
        if isinstance(values, list)
        for member, value in enumerate(values)
    }
