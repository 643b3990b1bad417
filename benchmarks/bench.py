"""What a case is given: where the interpreters are, and how long to measure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.contest import Contender, Outcome, contest
from benchmarks.environments import Environments
from benchmarks.table import Series


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The settings of one run of the benchmarks."""

    environments: Environments
    """Where the interpreters are."""
    repetitions: int = 5
    """How often everything is measured."""
    seconds: float = 1.0
    """How long one repetition should last, at least."""

    def contest(
        self,
        contenders: Sequence[Contender],
        *,
        fresh: bool = False,
        discard: int = 0,
        repetitions: int | None = None,
    ) -> dict[str, Outcome]:
        """Measure contenders in turn; see `benchmarks.contest`."""
        return contest(
            contenders,
            self.environments,
            repetitions=repetitions or self.repetitions,
            fresh=fresh,
            discard=discard,
        )


def series(outcome: Outcome | None, key: str) -> Series | None:
    """One number of an outcome over the repetitions; None if it was not measured."""
    if outcome is None or outcome.missing or key not in outcome.values:
        return None
    return Series(tuple(outcome.values[key]))


def label(side: str, outcome: Outcome | None) -> str:
    """A peer with its version and, where it had a choice, the variant that was fastest."""
    facts = outcome.facts if outcome else {}
    variant = facts.get("variant", "plain")
    parts = [side, *([facts["version"]] if "version" in facts else [])]
    return " ".join(parts) + ("" if variant == "plain" else f", {variant}")


def facts(outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """What all workers said of themselves."""
    return {name: outcome.facts for name, outcome in outcomes.items() if outcome.facts}
