"""A report: a title, where it comes from, and sections; written as a page and as JSON."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latent_assay.atomic import write_json, write_text
from latent_assay.errors import ConfigError
from latent_assay.report.claim import check_links, figures_of
from latent_assay.report.page import Section, render
from latent_assay.report.strict_json import plain

FORMAT = "latent-assay-report"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that a run found out, as plain data."""

    title: str
    """The page's heading."""
    summary: str = ""
    """The result in a few sentences; an empty line starts a new paragraph."""
    created: str = ""
    """When, as text. The report never reads the clock, so equal content gives equal files."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """What it was made from: versions, configurations, hashes, commands."""
    sections: tuple[Section, ...] = ()
    """The content, top to bottom."""

    def __post_init__(self) -> None:
        browsers = sum(
            figure.kind in ("latent_browser", "diagnoses") for figure in figures_of(self.sections)
        )
        if browsers > 1:
            raise ConfigError(
                f"a report holds one browser of latents, because a link names only the SAE and "
                f"the latent; received {browsers}. Put all SAEs into one browser."
            )
        check_links(self.sections)

    def to_json(self) -> dict[str, Any]:
        """The same content as the page, in plain JSON types; what has no value is null.

        Keys: `format` ("latent-assay-report"), `version` (1), `title`, `summary`, `created`,
        `provenance`, `sections`. Each section has `kind` and `title`, and further keys that
        its own `to_json` documents. Long arrays are packed (`latent_assay.report.unpack`).
        Floats keep six significant digits.
        """
        content = {
            "format": FORMAT,
            "version": VERSION,
            "title": self.title,
            "summary": self.summary,
            "created": self.created,
            "provenance": self.provenance,
            "sections": [section.to_json() for section in self.sections],
        }
        result: dict[str, Any] = plain(content)
        return result

    def to_html(self) -> str:
        """The page: one file that needs no network and no server."""
        return self._html(self.to_json())

    def write(self, folder: str | os.PathLike[str]) -> Path:
        """Write `report.html` and `report.json` into a folder, each wholly or not at all.

        **Returns:** the path of the page.

        **Raises:** `StorageError` if a file cannot be written.
        """
        content = self.to_json()
        page = Path(folder) / "report.html"
        html = self._html(content)
        write_json(Path(folder) / "report.json", content)
        write_text(page, html)
        return page

    def _html(self, content: Mapping[str, Any]) -> str:
        return render(
            title=self.title,
            summary=self.summary,
            created=self.created,
            provenance=self.provenance,
            sections=self.sections,
            content=content,
        )
