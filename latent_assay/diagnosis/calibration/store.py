"""Where a calibration and its figures are kept."""

from importlib import resources
from pathlib import Path

from latent_assay.atomic import plain, write_json, write_text
from latent_assay.diagnosis.calibration.calibrating import Calibrated
from latent_assay.diagnosis.calibration.page import calibration_report, markdown, spliced
from latent_assay.diagnosis.calibration_model import FILE
from latent_assay.errors import ConfigError


def check_hurry(*, quick: bool, write: bool, docs: Path | None) -> None:
    """Refuse to put what was made in a hurry into the package.

    **Raises:** `ConfigError` if that is asked for.
    """
    if quick and (write or docs is not None):
        raise ConfigError(
            "`--quick` fits on far too few SAEs for the package's calibration or its "
            "documentation. Run `assay calibrate --write` without it, which takes minutes."
        )


def keep(
    found: Calibrated,
    *,
    out: Path | None = None,
    write: bool = False,
    docs: Path | None = None,
) -> dict[str, str]:
    """Write what was asked for.

    **Arguments:**
    - `found`: calibration and figures.
    - `out`: folder for `report.html`, `figures.json` and `calibration.json`.
    - `write`: whether the calibration becomes the package's own.
    - `docs`: a page of the documentation whose figures are replaced.

    **Returns:** what was written, and where.
    """
    places = {}
    if docs is not None:
        page = docs.read_text(encoding="utf-8")
        write_text(docs, spliced(page, markdown(found.figures), f"'{docs}'"))
        places["docs"] = str(docs)
    if out is not None:
        calibration_report(found.figures).write(out)
        write_json(out / "figures.json", plain(found.figures))
        found.calibration.write(out / FILE)
        places["report"] = str(out / "report.html")
    if write:
        target = Path(str(resources.files("latent_assay.diagnosis") / FILE))
        found.calibration.write(target)
        places["calibration"] = str(target)
    return places
