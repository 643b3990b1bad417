import jaxtyping
import pytest
import torch


@pytest.fixture
def as_a_user(monkeypatch):
    """Without the shape checker, which only tests have: users meet our own messages instead."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
