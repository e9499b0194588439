# From a COCO detector to pairs in a short run: one backbone, norms per modality, the
# mean of the maps. On one camera it is the plain detector. First keep the rows of the
# three classes in the checkpoint:
#   python tools/model_converters/keep_classes.py CONFIG yolox_nano.pth TARGET
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
model = dict(type='mmir.ModalityShared', target='mmdet.YOLOX')
optim_wrapper = dict(optimizer=dict(lr=base_lr))
demo = dict(data='street', modality='ir')  # data rendered by `--demo`
