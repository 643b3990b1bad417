"""What came of an extension, in a folder of its own, read back with or without its SAEs.

outcome.json           width, n, metrics of the control, and what else is to be known
numbers.safetensors    hedging degree of each latent, its null, how often new latents fire
control/, extended/    the SAEs, as they are used (an ensemble has a folder per member)
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from latent_assay import formats
from latent_assay.atomic import new_folder, plain, write_json, write_tensors
from latent_assay.diagnosis import ExtensionNumbers, ExtensionOutcome
from latent_assay.errors import FormatError
from latent_assay.metrics.hedging_degree import HedgingDegree

_TABLE = "outcome.json"
_NUMBERS = "numbers.safetensors"


def write_outcome(
    outcome: ExtensionOutcome,
    folder: str | Path,
    *,
    scale: float = 1.0,
    about: dict[str, Any] | None = None,
) -> None:
    """Write an outcome, wholly or not at all.

    **Arguments:**
    - `outcome`: what came of one setting.
    - `folder`: where to; replaced if it exists.
    - `scale`: what activations were multiplied by in training; the SAEs are saved for raw ones.
    - `about`: what the files should say of the origin.
    """
    about = about or {}
    with new_folder(folder) as draft:
        for name, sae in (("control", outcome.control), ("extended", outcome.extended)):
            formats.save(sae.rescaled(scale), draft / name, about | {"phase": name})
        write_tensors(
            draft / _NUMBERS,
            {
                f"{name}.{part}": getattr(getattr(outcome, name), part)
                for name in ("degree", "null")
                for part in ("projection_by_latent", "baseline_by_latent")
            }
            | {"new_density": outcome.new_density},
        )
        write_json(
            draft / _TABLE,
            plain(
                {
                    "width": outcome.width,
                    "n": outcome.n,
                    "hedging_degree": outcome.degree.difference.tolist(),
                    "null": outcome.null.difference.tolist(),
                    "metrics": {name: each.tolist() for name, each in outcome.metrics.items()},
                    "about": about,
                }
            ),
        )


def has_outcome(folder: str | Path) -> bool:
    """Whether an outcome lies in a folder."""
    return (Path(folder) / _TABLE).is_file()


def read_numbers(folder: str | Path) -> ExtensionNumbers:
    """What was measured, without the SAEs.

    **Raises:** `FormatError` if there is no outcome in the folder, or it is damaged.
    """
    return ExtensionNumbers(**_read(Path(folder)))


def read_outcome(folder: str | Path) -> ExtensionOutcome:
    """Everything; the SAEs take raw activations.

    **Raises:** `FormatError` if there is no outcome in the folder, or it is damaged.
    """
    folder = Path(folder)
    numbers = _read(folder)
    control, extended = (formats.load(folder / name) for name in ("control", "extended"))
    return ExtensionOutcome(**numbers, control=control, extended=extended)


def _read(folder: Path) -> dict[str, Any]:
    try:
        table = json.loads((folder / _TABLE).read_text(encoding="utf-8"))
        tensors = load_file(folder / _NUMBERS)
        return {
            "width": int(table["width"]),
            "n": int(table["n"]),
            **{
                name: HedgingDegree(
                    projection_by_latent=tensors[f"{name}.projection_by_latent"],
                    baseline_by_latent=tensors[f"{name}.baseline_by_latent"],
                )
                for name in ("degree", "null")
            },
            "new_density": tensors["new_density"],
            "metrics": {
                name: torch.tensor([float(each) for each in values], dtype=torch.float64)
                for name, values in table["metrics"].items()
            },
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise FormatError(
            f"'{folder}' holds no outcome of an extension that can be read ({error}); expected "
            f"{_TABLE} and {_NUMBERS}, as `assay train` leaves them. Remove the folder and run the "
            "same command again."
        ) from error
