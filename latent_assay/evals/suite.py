"""All evaluations of several SAEs, one after another: what cannot be measured stops nothing.

Each result is written as soon as it is there, so that an interrupted suite goes on where it was.
"""

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from latent_assay.atomic import write_json
from latent_assay.errors import AssayError, ConfigError, EndpointError, did_you_mean
from latent_assay.evals.catalogue import EVALUATIONS, evaluation
from latent_assay.evals.groups import GROUPS, Group, fingerprint
from latent_assay.evals.materials import Materials, short_hash
from latent_assay.evals.result import EvalResult, not_measurable, pooled
from latent_assay.evals.storing import result_from_json, result_json
from latent_assay.sae import SAE


class Suite:
    """Evaluates any number of SAEs on the same materials.

    **Arguments:**
    - `materials`: model, hook point, texts and settings.
    """

    def __init__(self, materials: Materials) -> None:
        self.materials = materials

    def run(
        self,
        saes: Mapping[str, SAE],
        *,
        only: Sequence[str] = (),
        folder: Path | None = None,
        advance: Callable[[str, str], object] | None = None,
    ) -> dict[str, dict[str, EvalResult]]:
        """Evaluate several SAEs.

        Members of an ensemble are evaluated one by one, and their results pooled: the spread is
        then that over training seeds. An evaluation that cannot be measured says why; one that
        fails says that it failed, and is tried again by the next call.

        **Arguments:**
        - `saes`: by name, for raw activations at the hook point.
        - `only`: names of evaluations; all if empty.
        - `folder`: where each result is kept as soon as it is there; results that lie there
          already, of the same SAE, settings and version, are not measured again.
        - `advance`: called with the names of SAE and evaluation before each.

        **Returns:** for each SAE a result for each evaluation, in the catalogue's order.

        **Raises:** `ConfigError` for an unknown evaluation; `StorageError` if a result cannot be
        written.
        """
        groups = _groups(only)
        wanted = set(only) or {name for group in groups for name in group.gives}
        return {
            name: self._of_one(name, sae, groups, wanted, folder, advance)
            for name, sae in saes.items()
        }

    def _of_one(
        self,
        name: str,
        sae: SAE,
        groups: Sequence[Group],
        wanted: set[str],
        folder: Path | None,
        advance: Callable[[str, str], object] | None,
    ) -> dict[str, EvalResult]:
        members = sae.take(list(range(min(sae.members, self.materials.config.members)))).unstack()
        found: dict[str, EvalResult] = {}
        for group in groups:
            if advance is not None:
                advance(name, group.name)
            several = []
            for number, member in enumerate(members):
                place = None
                if folder is not None:
                    ending = f"-{number}" if len(members) > 1 else ""
                    place = folder / _file_name(name) / f"{group.name}{ending}.json"
                several.append(self._kept(group, member, place))
            for each in group.gives:
                if each in wanted:
                    found[each] = (
                        pooled([r[each] for r in several])
                        if len(several) > 1
                        else (several[0][each])
                    )
        return {each: found[each] for each in EVALUATIONS if each in found}

    def _kept(self, group: Group, member: SAE, place: Path | None) -> dict[str, EvalResult]:
        """The results of a group, from the disk if they lie there."""
        key = {
            **self.materials.settings(),
            "sae": fingerprint(member),
            "versions": {each: evaluation(each).version for each in group.gives},
        }
        key = json.loads(json.dumps(key, default=str))
        if place is not None and place.is_file():
            try:
                stored = json.loads(place.read_text(encoding="utf-8"))
                if stored["key"] == key and not stored["failed"]:
                    return {each["name"]: result_from_json(each) for each in stored["results"]}
            except (ValueError, KeyError, TypeError, AssayError):
                pass  # damaged or of another version: measured again
        inner = None if place is None else place.with_suffix("")
        made, failed = self._measured(group, member, inner)
        # as they will be when read again
        results = {name: result_from_json(result_json(each)) for name, each in made.items()}
        if place is not None:
            write_json(
                place,
                {
                    "key": key,
                    "failed": failed,
                    "results": [result_json(each) for each in results.values()],
                },
            )
        return results

    def _measured(
        self, group: Group, member: SAE, folder: Path | None
    ) -> tuple[dict[str, EvalResult], bool]:
        try:
            return dict(group.measure(self.materials, member, folder)), False
        except EndpointError as error:  # may answer another time
            return {each: not_measurable(each, str(error)) for each in group.gives}, True
        except AssayError as error:
            return {each: not_measurable(each, str(error)) for each in group.gives}, False
        except Exception as error:  # a defect in one evaluation must not cost the others
            told = f"it failed: {type(error).__name__}: {error}"
            details = {"traceback": traceback.format_exc()}
            return {each: not_measurable(each, told, details=details) for each in group.gives}, True


def measurable() -> list[str]:
    """Names of the evaluations that a suite can measure, in the catalogue's order."""
    given = {name for group in GROUPS for name in group.gives}
    return [name for name in EVALUATIONS if name in given]


def _groups(only: Sequence[str]) -> list[Group]:
    known = measurable()
    for name in only:
        if name not in known:
            raise ConfigError(
                f"there is no evaluation `{name}`; expected one or more of {', '.join(known)}."
                f"{did_you_mean(name, known)}"
            )
    return [group for group in GROUPS if not only or set(only) & set(group.gives)]


def _file_name(name: str) -> str:
    kept = "".join(each if each.isalnum() or each in "-_." else "-" for each in name)
    # two names that differ only in what a file cannot be called must not share a file
    return (
        kept if kept == name and kept.strip(".") else f"{kept.strip('.')}-{short_hash([name])[:6]}"
    )
