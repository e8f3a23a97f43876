import jaxtyping
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def unchecked(monkeypatch):
    """Shape checks off, as for a reader: our own error message must come through."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
