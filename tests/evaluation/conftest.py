import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def _own_scope(monkeypatch):
    """Hide the default scope that runners set from other tests."""
    known = DefaultScope._instance_dict
    monkeypatch.setattr(DefaultScope, '_instance_dict', known.copy())
