import jaxtyping
import pytest
import torch
from hypothesis import settings

MARKED = {"browser": "browser", "chromium": "browser", "sandboxed": "sandbox"}  # by a fixture

torch.set_num_threads(1)
settings.register_profile("same examples every time", derandomize=True)
settings.load_profile("same examples every time")


def pytest_collection_modifyitems(items):
    """What a test asks for is what `make quick` must do without."""
    for item in items:
        for fixture in MARKED.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(MARKED[fixture])


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
