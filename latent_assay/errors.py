"""Every error that a user can cause, each saying what was expected, what was found, what to do.

    AssayError
    ├── ShapeError          a tensor does not fit (also a ValueError)
    ├── ConfigError         a setting is out of range or unknown (also a ValueError)
    ├── DataError           text or activations that cannot be used (also a ValueError)
    ├── WorldError          a world that cannot exist, or not do what is asked (also a ValueError)
    ├── HookError           a hook point that the model does not have (also a KeyError)
    ├── FormatError         a file that is not what it should be (also a ValueError)
    ├── StorageError        a file that could not be written (also an OSError)
    ├── EndpointError       another program did not answer as it should (also a ConnectionError)
    ├── TrainingDiverged    input, loss or gradient stopped being finite (also an ArithmeticError)
    └── MissingExtra        an optional dependency is not installed (also an ImportError)

The command line turns each of them into one paragraph and a non-zero exit status; a traceback
there means a defect of ours.
"""

import importlib
from collections.abc import Iterable
from difflib import get_close_matches
from types import ModuleType


class AssayError(Exception):
    """Base of every error that Latent Assay raises on purpose."""

    def __str__(self) -> str:  # KeyError would show the repr of its message
        return " ".join(str(argument) for argument in self.args)


class ShapeError(AssayError, ValueError):
    """A tensor's shape does not fit the object that it was given to."""


class ConfigError(AssayError, ValueError):
    """A setting is unknown, of the wrong type, or out of range."""


class DataError(AssayError, ValueError):
    """Text or activations that cannot be used."""


class WorldError(AssayError, ValueError):
    """A world that cannot exist, or that cannot do what was asked of it."""


class HookError(AssayError, KeyError):
    """A hook point that the model does not have."""


class FormatError(AssayError, ValueError):
    """A file or folder that is not what it should be."""


class StorageError(AssayError, OSError):
    """A file that could not be written; what was there before is untouched."""


class EndpointError(AssayError, ConnectionError):
    """Another program, asked over the network, gave no answer or none that can be read."""


class TrainingDiverged(AssayError, ArithmeticError):
    """Input, loss or gradient stopped being finite."""


class MissingExtra(AssayError, ImportError):
    """An optional dependency is not installed."""


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional dependency, or say which command installs it.

    **Arguments:**
    - `module`: the module's import name.
    - `extra`: the extra of `latent-assay` that brings it.
    - `purpose`: what it is needed for, as in "reading a language model".
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtra(
            f"{purpose} needs the package `{module}`, which is not installed. "
            f"Install it with: pip install 'latent-assay[{extra}]'"
        ) from error


def did_you_mean(wrong: str, valid: Iterable[str]) -> str:
    """A sentence naming the valid words nearest to a wrong one; empty if none is near."""
    near = get_close_matches(wrong, list(valid), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(f'`{word}`' for word in near)}?" if near else ""
