# What AGW is compared with: no non-local blocks, mean pooling, batch-hard triplets.
_base_ = './agw_r50_sysu.py'

triplet = dict(type='mmir.HardTripletLoss', margin=0.3)
model = dict(
    backbone=dict(backbone=dict(non_local=(0, 0, 0, 0))),
    neck=dict(_delete_=True, type='mmpretrain.GlobalAveragePooling'),
    head=dict(metric=dict(_delete_=True, triplet=triplet)),
)
