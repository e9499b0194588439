"""Errors of ConvLoRA; the contract suite tests what it computes."""

import pytest
from torch import nn

from mmir.adapters import adapt_
from mmir.peft import ConvLoRA


def test_a_name_taken_on_one_layer_changes_no_other():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    adapt_(net, ConvLoRA(1, include=['0']), 'night')
    adapt_(net, ConvLoRA(1, include=['1']), 'ir')
    keys = list(net.state_dict())
    with pytest.raises(ValueError, match=r"^1: there is an adapter 'ir' already"):
        adapt_(net, ConvLoRA(1), 'ir')
    assert list(net.state_dict()) == keys
