import jaxtyping
import pytest
import torch


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the shape checks of the test run: as for users, the library must answer itself."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
