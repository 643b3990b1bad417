import jaxtyping
import pytest


@pytest.fixture(autouse=True)
def as_a_user(monkeypatch):
    """Without the shape checker, whose errors would hide ours."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
