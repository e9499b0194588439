# Baseline: every parameter of the dense network trains on the same 62 images, with the
# same schedule and augmentation, from the same RGB model, merged by
# `tools/model_converters/merge_factors.py`.
_base_ = './yolo_flir_1pct.py'

load_from = 'work_dirs/yolo_rgb/merged.pth'
model = dict(factorize=None)
