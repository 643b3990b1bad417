import jaxtyping
import pytest


@pytest.fixture
def as_a_user(monkeypatch):
    """Without the shape checker, which only tests have: users meet our own messages instead."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
