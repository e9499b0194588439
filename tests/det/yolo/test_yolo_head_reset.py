"""A checkpoint with other classes: the output layers are kept, with one warning."""

import pytest
import torch

from mmir.det import YOLOHeadModule
from mmir.det.yolo import head_module

TINY = (128, 256, 512)


def test_other_classes_leave_the_head_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(head_module, 'print_log', lambda text, **_: told.append(text))
    torch.manual_seed(0)
    released, own = YOLOHeadModule(80, TINY), YOLOHeadModule(3, TINY)
    before = {k: v.clone() for k, v in own.state_dict().items()}
    state = released.state_dict()
    result = own.load_state_dict(state)
    assert not result.missing_keys
    assert not result.unexpected_keys
    for key, value in own.state_dict().items():
        # what is added to the features has nothing to do with the classes
        source = state if key.endswith('0.implicit') else before
        assert torch.equal(value, source[key]), key
    assert len(told) == 1
    assert 'detects 80 classes, the model 3' in told[0]
    assert len(state['convs_pred.0.1.weight']) == 3 * 85  # not changed


def test_the_same_classes_load() -> None:
    torch.manual_seed(0)
    source, own = YOLOHeadModule(3, TINY), YOLOHeadModule(3, TINY)
    own.load_state_dict(source.state_dict())
    for key, value in own.state_dict().items():
        assert torch.equal(value, source.state_dict()[key])


def test_plain_heads_are_reset_too() -> None:
    released = YOLOHeadModule(80, TINY, implicit=False)
    own = YOLOHeadModule(3, TINY, implicit=False)
    before = {k: v.clone() for k, v in own.state_dict().items()}
    own.load_state_dict(released.state_dict())
    for key, value in own.state_dict().items():
        assert torch.equal(value, before[key]), key
