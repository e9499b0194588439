# As yolox-nano_coco_flir_pair_shared.py with two backbones, for comparison.
_base_ = [
    '../_base_/models/yolox_nano_paired.py',
    '../_base_/datasets/paired_det_zoom.py',
    '../_base_/schedules/adam_25e_yolox.py',
    '../_base_/runtime/det.py',
]

# ========================== values one often changes ==========================
load_from = 'work_dirs/yolox-nano_coco3.pth'  # from keep_classes.py
base_lr = 3e-4

# ========================= values that rarely change ==========================
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmir.TwoStreamBackbone',
        backbone={{_base_.model.backbone}},
        channels=dict(rgb=3, ir=3),
        fuse='add',
    )
)
optim_wrapper = dict(optimizer=dict(lr=base_lr))
demo = dict(data='street', modality='ir')  # data rendered by `--demo`
