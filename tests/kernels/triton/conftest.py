"""Where there is a GPU the kernels are tested on it, elsewhere in Triton's interpreter.

The interpreter has to be switched on before Triton is imported, hence here. Where there is no
Triton (it exists for Linux alone) there is nothing to test.
"""

import importlib.util
import os

import pytest
import torch

if importlib.util.find_spec("triton") is None:
    collect_ignore_glob = ["test_*.py"]
elif not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


def _devices() -> list[str]:
    interpreted = os.environ.get("TRITON_INTERPRET", "0") == "1"
    return ["cpu"] if interpreted else ["cuda"]


@pytest.fixture(params=_devices())
def device(request) -> torch.device:
    """The device that the kernels run on here."""
    return torch.device(request.param)
