"""Layers of the head, with and without implicit layers."""

from torch import nn

from mmir.det import YOLOHeadModule


def test_a_head_without_implicit_layers_has_plain_convolutions():
    head = YOLOHeadModule(3, (8, 16, 32), implicit=False)
    assert [type(m) for m in head.convs_pred] == [nn.Conv2d] * 3
    other = YOLOHeadModule(3, (8, 16, 32), implicit=False)
    assert not any(other.load_state_dict(head.state_dict()))
    # objectness starts at 8 objects of 6400 cells
    bias = head.convs_pred[0].bias.view(3, 8)[:, 4]
    assert ((bias - bias.new_tensor(8 / 6400).log()).abs() <= 8**-0.5).all()
