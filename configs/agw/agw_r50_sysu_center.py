# Centre loss besides; its weight is from Luo et al., CVPR Workshops 2019.
_base_ = './agw_r50_sysu.py'

center = dict(
    type='mmir.CenterLoss',
    num_classes=_base_.num_classes,
    in_channels=2048,
    loss_weight=5e-4,
)
model = dict(head=dict(metric=dict(center=center)))
