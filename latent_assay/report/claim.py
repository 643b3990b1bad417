"""Claims that were tested: what was said, what was measured, and the figure beside the numbers."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from latent_assay.errors import ConfigError
from latent_assay.report.content import CosineMaps, FiringTable, Histogram, Prose, TrainingCurves
from latent_assay.report.latents import LatentBrowser
from latent_assay.report.metrics_table import MetricsTable
from latent_assay.report.reading import Reading

Figure = (
    Prose | MetricsTable | TrainingCurves | Histogram | CosineMaps | FiringTable | LatentBrowser
)
Verdict = Literal["holds", "does not hold", "not tested"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim with the numbers and figures that test it."""

    id: str
    """By which links name it; one of its kind in a report."""
    title: str
    """A few words."""
    claim: str
    """What was stated."""
    readings: tuple[Reading, ...]
    """Every number that was held against what it should be."""
    setup: str = ""
    """How it was tested."""
    errors: str = ""
    """What is wrong where it was stated, and the corrected form."""
    note: str = ""
    """What a reader should know of this test."""
    members: int = 1
    """Seeds behind each number; 1 for a closed form."""
    figures: tuple[Figure, ...] = ()
    """Sections that belong to it, shown beside the numbers or, where they are wide, below."""

    @property
    def passed(self) -> bool:
        """Whether there are readings and all are as they should be."""
        return bool(self.readings) and all(reading.passed for reading in self.readings)

    @property
    def verdict(self) -> Verdict:
        """In words."""
        if not self.readings:
            return "not tested"
        return "holds" if self.passed else "does not hold"

    @property
    def anchor(self) -> str:
        """The fragment of a link to it.

        >>> Claim(id="fig 2", title="", claim="", readings=()).anchor
        'claim-fig%202'
        """
        return "claim-" + quote(self.id, safe="", errors="replace")

    def to_json(self) -> dict[str, Any]:
        """Keys as the fields, and `passed` and `verdict`; `figures` are sections."""
        return {
            "id": self.id,
            "title": self.title,
            "passed": self.passed,
            "verdict": self.verdict,
            "members": self.members,
            "claim": self.claim,
            "setup": self.setup,
            "errors": self.errors,
            "readings": [reading.to_json() for reading in self.readings],
            "note": self.note,
            "figures": [figure.to_json() for figure in self.figures],
        }


@dataclass(frozen=True, kw_only=True)
class ClaimGroup:
    """The claims of one source."""

    title: str
    """The section's heading, such as the name of a paper."""
    claims: tuple[Claim, ...]
    """In the order of the source."""
    sentence: str = ""
    """What they have in common."""
    kind: str = field(default="claim_group", init=False)

    @property
    def passed(self) -> int:
        """How many hold."""
        return sum(claim.passed for claim in self.claims)

    def to_json(self) -> dict[str, Any]:
        """Keys as the fields, and how many `passed`."""
        return {
            "kind": self.kind,
            "title": self.title,
            "sentence": self.sentence,
            "passed": self.passed,
            "claims": [claim.to_json() for claim in self.claims],
        }


@dataclass(frozen=True, kw_only=True)
class ClaimOverview:
    """How many claims hold, those that do not, and a link to each."""

    groups: tuple[ClaimGroup, ...]
    """Those of the page, in its order."""
    title: str = "Overview"
    """The section's heading."""
    sentence: str = ""
    """What the overview shows."""
    kind: str = field(default="claim_overview", init=False)

    @property
    def claims(self) -> tuple[Claim, ...]:
        """All, group after group."""
        return tuple(claim for group in self.groups for claim in group.claims)

    def to_json(self) -> dict[str, Any]:
        """`passed` of `total`, the ids that `failed`, and each group with its claims in brief."""
        return {
            "kind": self.kind,
            "title": self.title,
            "sentence": self.sentence,
            "passed": sum(claim.passed for claim in self.claims),
            "total": len(self.claims),
            "failed": [claim.id for claim in self.claims if not claim.passed],
            "groups": [
                {
                    "title": group.title,
                    "passed": group.passed,
                    "claims": [
                        {
                            "id": claim.id,
                            "title": claim.title,
                            "passed": claim.passed,
                            "members": claim.members,
                        }
                        for claim in group.claims
                    ],
                }
                for group in self.groups
            ],
        }


def figures_of(sections: Iterable[Any]) -> Iterator[Figure]:
    """All sections that draw something themselves, those inside claims among them."""
    for section in sections:
        if isinstance(section, ClaimGroup):
            for claim in section.claims:
                yield from claim.figures
        elif not isinstance(section, ClaimOverview):
            yield section


def check_links(sections: Sequence[Any]) -> None:
    """Every claim has an id of its own, and an overview names only claims of the page.

    **Raises:** `ConfigError` otherwise.
    """
    groups = [section for section in sections if isinstance(section, ClaimGroup)]
    ids = [claim.id for group in groups for claim in group.claims]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise ConfigError(
            f"a report needs one claim for each id, because links name a claim by it; received "
            f"{', '.join(twice)} more than once. Give each claim an id of its own."
        )
    overviews = [section for section in sections if isinstance(section, ClaimOverview)]
    missing = sorted({claim.id for each in overviews for claim in each.claims} - set(ids))
    if missing:
        raise ConfigError(
            f"an overview can name only claims of its own report, received {', '.join(missing)} "
            "besides. Put the overview's groups into the report's sections."
        )
