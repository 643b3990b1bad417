"""Many runs on a cluster: one job for each configuration, through submitit."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latent_assay.errors import ConfigError, require
from latent_assay.runs.config import read_config
from latent_assay.runs.folder import slug
from latent_assay.runs.run import train


@dataclass(frozen=True)
class Task:
    """One run as a job: what submitit sends to the machine that executes it.

    A job that reaches its time limit or makes room for another is submitted again, and goes on from
    its last checkpoint.
    """

    config: str
    """The configuration file, or the name of one that comes with the package."""
    folder: str
    """Where everything goes."""

    def __call__(self) -> str:
        """Train and report; the folder."""
        return str(train(read_config(self.config), self.folder, progress=False).folder)

    def checkpoint(self) -> Any:
        """What submitit asks for when the job is to end early: the same again."""
        submitit = require("submitit", extra="cluster", purpose="submitting runs to a cluster")
        return submitit.helpers.DelayedSubmission(self)


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Settings of jobs as a command line gives them.

    **Arguments:**
    - `settings`: `NAME=VALUE` each; a value that is a number becomes one.

    **Raises:** `ConfigError` for one without a name or value.

    >>> parse_settings(["timeout_min=60", "slurm_partition=gpu"])
    {'timeout_min': 60, 'slurm_partition': 'gpu'}
    """
    found: dict[str, Any] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if not name or not value:
            raise ConfigError(
                f"a setting of the jobs must read NAME=VALUE, as timeout_min=60, got {setting!r}."
            )
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def submit(
    configs: Sequence[str | Path],
    folder: str | Path,
    *,
    executor: Any = "slurm",
    **settings: Any,
) -> dict[str, Any]:
    """Submit a job for each configuration.

    All configurations are read, and refused if wrong, before the first job is submitted. The folder
    must be one that this machine and those of the cluster share. Jobs that are already done end at
    once, so the same call continues a grid that was interrupted.

    **Arguments:**
    - `configs`: configuration files, or names of those that come with the package.
    - `folder`: each run goes to a folder in it that is named after its configuration; the jobs' own
      logs go to `jobs`.
    - `executor`: "slurm", "local" (processes on this machine), "debug" (in this process), or a
      submitit executor.
    - `settings`: what a job needs, as submitit calls it: `timeout_min`, `gpus_per_node`,
      `cpus_per_task`, `mem_gb`, `slurm_partition`, `slurm_array_parallelism` and so on.

    **Returns:** a submitit job by the name of each configuration; `job.result()` waits for it and
    gives the run's folder.

    **Raises:** `ConfigError` if a configuration is wrong, two have one name, there is none, or
    submitit does not know a setting; `MissingExtra` without submitit.
    """
    submitit = require("submitit", extra="cluster", purpose="submitting runs to a cluster")
    folder = Path(folder).expanduser().absolute()
    tasks: dict[str, Task] = {}
    for config in configs:
        read_config(config)
        path = Path(config).expanduser()
        name = slug(path.stem)
        if name in tasks or name == "jobs":
            raise ConfigError(
                f"two configurations would share the folder '{folder / name}'; give their files "
                "names that differ in letters or digits, and none the name `jobs`."
            )
        place = str(path.absolute()) if path.is_file() else str(config)
        tasks[name] = Task(config=place, folder=str(folder / name))
    if not tasks:
        raise ConfigError("nothing to submit: expected at least one configuration, got none.")
    if isinstance(executor, str):
        try:
            executor = submitit.AutoExecutor(folder=folder / "jobs", cluster=executor)
        except (ValueError, RuntimeError) as error:
            raise ConfigError(
                f'`executor` must be "slurm", "local" or "debug", got {executor!r}, or there is no '
                f"Slurm on this machine ({error})."
            ) from error
    try:
        executor.update_parameters(**settings)
    except (NameError, TypeError, ValueError) as error:
        raise ConfigError(f"submitit refuses the settings of the jobs: {error}") from error
    with executor.batch():  # Slurm gets one array instead of many jobs
        jobs = {name: executor.submit(task) for name, task in tasks.items()}
    return jobs
