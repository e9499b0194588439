# Late fusion: two segmentors, averaged class probabilities.
_base_ = [
    '../_base_/models/deeplabv3plus_r18_paired.py',
    '../_base_/datasets/paired_seg.py',
    '../_base_/schedules/sgd_200e.py',
    '../_base_/runtime/seg.py',
]

# ========================== values one often changes ==========================
# From deeplabv3plus_r18_msrs_rgb.py and deeplabv3plus_r18_msrs_ir.py.
# Without checkpoints both are trained here, side by side.
checkpoints = dict(rgb=None, ir=None)

# ========================= values that rarely change ==========================
segmentor = {{_base_.model}}
model = dict(
    _delete_=True,
    type='mmir.LateFusionSegmentor',
    data_preprocessor={{_base_.model.data_preprocessor}},
    segmentors=dict(rgb=segmentor, ir=segmentor),
    checkpoints=checkpoints,
    fuse='arithmetic',
)
