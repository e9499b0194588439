import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def _own_scope(monkeypatch):
    """Runners set a default scope; other tests do not see it."""
    known = DefaultScope._instance_dict
    monkeypatch.setattr(DefaultScope, '_instance_dict', known.copy())
