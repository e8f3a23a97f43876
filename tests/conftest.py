import jaxtyping
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("same examples every time", derandomize=True)
settings.load_profile("same examples every time")


@pytest.fixture(autouse=True)
def same_weights_in_any_order():
    """A network made in a test does not depend on which tests ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def unchecked(monkeypatch):
    """Shape checks off, as for a reader: our own error message must come through."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
