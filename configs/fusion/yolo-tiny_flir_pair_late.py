# Late fusion: two detectors with fused boxes.
_base_ = [
    '../_base_/models/yolov7_tiny_paired.py',
    '../_base_/datasets/paired_det.py',
    '../_base_/schedules/adam_200e.py',
    '../_base_/runtime/det.py',
]

# ========================== values one often changes ==========================
# From yolo-tiny_flir_pair_rgb.py and yolo-tiny_flir_pair_ir.py. Without
# checkpoints both are trained here, side by side.
checkpoints = dict(rgb=None, ir=None)
fuse = dict(method='wbf', iou_threshold=0.55)

# ========================= values that rarely change ==========================
detector = {{_base_.model}}
model = dict(
    _delete_=True,
    type='mmir.LateFusionDetector',
    data_preprocessor={{_base_.model.data_preprocessor}},
    detectors=dict(rgb=detector, ir=detector),
    checkpoints=checkpoints,
    fuse=fuse,
)
# no YOLOXModeSwitchHook, which expects one `bbox_head`: mosaic until the end
custom_hooks = [
    dict(type='NumClassCheckHook'),
    dict(type='mmir.SubsetRecordHook'),
    dict(type='mmir.ScheduleEMAHook', horizon=0.1, update_buffers=True, priority=49),
]
demo = dict(data='street', modality='ir')  # data rendered by `--demo`
