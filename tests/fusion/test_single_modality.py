"""A model that reads one modality of a pair equals the plain model on it."""

import copy

import pytest
import torch
from any_host import HOSTS
from mmengine.registry import MODELS, DefaultScope
from paired_host import (
    SMALL_DEEPLAB,
    assert_same,
    backbone_maps,
    built_by,
    lively,
    paired_config,
)

from mmir.fusion import SingleModality


@pytest.fixture(params=[HOSTS['rtmdet'], SMALL_DEEPLAB, HOSTS['mobilenet_v3']])
def host(request):
    host = request.param
    pytest.importorskip(host.scope)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(host.scope):
        yield host


def test_it_is_the_plain_model_on_its_channels(host):
    plain = lively(MODELS.build(paired_config(host, rgb=3)))
    rgb, ir = torch.randn(2, 2, 3, 64, 64).double()
    cfg = paired_config(host, rgb=3, ir=3)
    for name, part in (('rgb', rgb), ('ir', ir)):
        model = built_by('SingleModality', cfg, modality=name).double()
        assert model.state_dict().keys() == plain.state_dict().keys()
        model.load_state_dict(plain.state_dict())
        for each in (model, copy.deepcopy(model)):  # as a moving average has it
            maps = backbone_maps(each, torch.cat([rgb, ir], 1))
            assert_same(maps, backbone_maps(plain, part))


def test_one_channel_reads_as_grey(host):
    plain = lively(MODELS.build(paired_config(host, rgb=3)))
    cfg = paired_config(host, rgb=3, ir=1)
    model = built_by('SingleModality', cfg, modality='ir').double()
    model.load_state_dict(plain.state_dict())
    stacked = torch.randn(2, 4, 64, 64).double()
    gray = stacked[:, 3:].expand(-1, 3, -1, -1)
    assert_same(backbone_maps(model, stacked), backbone_maps(plain, gray))


def test_unknown_modality_and_foreign_preprocessor_are_refused(host):
    with pytest.raises(ValueError, match="no modality 'nir', the data preprocessor"):
        built_by('SingleModality', paired_config(host, rgb=3, ir=3), modality='nir')
    cfg = paired_config(host, rgb=3)
    cfg.data_preprocessor = None
    with pytest.raises(ValueError, match='but paired samples need one such as'):
        built_by('SingleModality', cfg, modality='rgb')
    assert MODELS.get('mmir.SingleModality') is SingleModality
