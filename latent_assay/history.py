"""What training looked like: every logged number, by step and member."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from latent_assay.errors import ConfigError, FormatError, did_you_mean


@dataclass
class History:
    """Numbers logged during training, kept in memory; `plot` draws them.

    >>> history = History()
    >>> history.append(100, 51_200, {"loss": [0.5, 0.4]})
    >>> history["loss"]
    array([[0.5, 0.4]])
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    """One entry for each logged step: `step`, `samples` and a list with one value per member."""
    interrupted: bool = False
    """Whether training was stopped by Ctrl-C before its last step."""

    @classmethod
    def read(cls, path: str | Path) -> "History":
        """The history in a `log.jsonl` that `fit` wrote.

        **Raises:** `FormatError` if it is not one.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines(keepends=True)
            if len(lines) > 1 and not _is_whole(lines[-1]):
                lines.pop()  # a killed process left half of it
            records = [json.loads(line) for line in lines]
            if not all(isinstance(each, dict) and "step" in each for each in records):
                raise ValueError("a line is not a record")
        except (OSError, ValueError) as error:
            raise FormatError(
                f"'{path}' is not a training log ({error}); expected one JSON object per line, as "
                "`fit` writes them."
            ) from error
        return cls(records=records)

    def take(self, members: Sequence[int]) -> "History":
        """The history of some members alone.

        **Arguments:**
        - `members`: their indices.
        """
        records = [
            {
                name: [value[member] for member in members] if isinstance(value, list) else value
                for name, value in record.items()
            }
            for record in self.records
        ]
        return History(records=records, interrupted=self.interrupted)

    def append(self, step: int, samples: int, values: dict[str, list[float]]) -> None:
        """Add the numbers of one step."""
        self.records.append({"step": step, "samples": samples, **values})

    @property
    def steps(self) -> Int[np.ndarray, " record"]:
        """The logged steps."""
        return np.array([record["step"] for record in self.records], dtype=np.int64)

    @property
    def samples(self) -> Int[np.ndarray, " record"]:
        """Samples seen at the logged steps."""
        return np.array([record["samples"] for record in self.records], dtype=np.int64)

    @property
    def names(self) -> list[str]:
        """What was logged."""
        return [name for name in (self.records[0] if self.records else {}) if name not in _AXES]

    @property
    def members(self) -> int:
        """Number of members."""
        return len(self.records[0][self.names[0]]) if self.records else 0

    @property
    def values(self) -> dict[str, Float[np.ndarray, "record member"]]:
        """Everything that was logged, by name."""
        return {name: self[name] for name in self.names}

    def __getitem__(self, name: str) -> Float[np.ndarray, "record member"]:
        """One logged quantity."""
        if name not in self.names:
            raise ConfigError(
                f"nothing called `{name}` was logged; there are "
                f"{', '.join(self.names) or 'no records'}." + did_you_mean(name, self.names)
            )
        return np.array([record[name] for record in self.records], dtype=np.float64)

    def plot(self, *names: str) -> Any:
        """Draw the named quantities (all, if none is named) over steps, as a matplotlib Figure."""
        # the one arrow that points up the layers: drawing is only wanted when it is asked for
        from latent_assay.plots import training_curves

        return training_curves({"training": self}, names or None)


def _is_whole(line: str) -> bool:
    """Whether the last line of a log was written to its end."""
    try:
        json.loads(line)
    except ValueError:
        return line.endswith("\n")  # wrong, but not for being cut short
    return True


_AXES = ("step", "samples")
