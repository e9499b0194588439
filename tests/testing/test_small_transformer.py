"""Vision transformers of configs become narrow, with all that is connected to them."""

import copy

from mmir.testing.small_transformer import WIDTH, shrink_transformer_


def test_vit_with_taps_and_heads() -> None:
    weights = dict(type='Pretrained', checkpoint='vit.pth')
    vit = dict(type='mmir.Adapted', target='mmpretrain.ViTEVA02', arch='large')
    model = dict(
        backbone=dict(
            type='mmir.TransformerTaps',
            backbone=dict(vit, init_cfg=weights),
            blocks=(7, 11, 15, 23),
        ),
        decode_head=dict(in_channels=[1024, 1024], channels=256),
        auxiliary_head=[dict(in_channels=1024, channels=40)],
    )
    assert shrink_transformer_(model)
    inner = model['backbone']['backbone']
    assert inner['arch']['embed_dims'] == WIDTH
    assert inner['arch']['num_layers'] == 24  # the taps are indices of blocks
    assert inner['arch']['global_attn_indexes'] == [5, 11, 17, 23]
    assert inner['init_cfg'] is None
    assert model['decode_head'] == dict(in_channels=[WIDTH, WIDTH], channels=32)
    assert model['auxiliary_head'] == [dict(in_channels=WIDTH, channels=8)]


def test_swin_under_dino() -> None:
    layer = dict(ffn_cfg=dict(feedforward_channels=2048))
    model = dict(
        backbone=dict(
            type='mmdet.SwinTransformer', embed_dims=192, depths=[2, 2, 18, 2]
        ),
        neck=dict(in_channels=[192, 384, 768, 1536], out_channels=256),
        encoder=dict(num_layers=6, layer_cfg=layer),
        decoder=dict(num_layers=6, layer_cfg=copy.deepcopy(layer)),
        num_queries=900,
    )
    assert shrink_transformer_(model)
    backbone = model['backbone']
    assert (backbone['embed_dims'], backbone['depths']) == (WIDTH, [2, 2, 2, 2])
    assert backbone['num_heads'] == [2, 4, 8, 16]
    widths = [WIDTH, 2 * WIDTH, 4 * WIDTH, 8 * WIDTH]
    assert model['neck'] == dict(in_channels=widths, out_channels=256)
    assert model['encoder']['num_layers'] == 1
    assert model['decoder']['layer_cfg']['ffn_cfg']['feedforward_channels'] == 64
    assert model['num_queries'] == 100


def test_other_networks_are_left_alone() -> None:
    model = dict(
        backbone=dict(type='mmdet.ResNet', depth=50, init_cfg=dict(type='Pretrained')),
        neck=dict(in_channels=[256, 512, 1024, 2048]),
    )
    before = copy.deepcopy(model)
    assert not shrink_transformer_(model)
    assert model == before
