# Halfway fusion: two backbones, their feature maps concatenated and mixed.
_base_ = [
    '../_base_/models/deeplabv3plus_r18_paired.py',
    '../_base_/datasets/paired_seg.py',
    '../_base_/schedules/sgd_200e.py',
    '../_base_/runtime/seg.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmir.TwoStreamBackbone',
        backbone={{_base_.model.backbone}},
        channels=dict(rgb=3, ir=1),
        fuse='concat',
        levels=(0, 2, 3),  # those the heads use
    )
)
