# Baseline: full fine-tuning of YOLOX-nano on the same images, with the same schedule.
_base_ = './yolox-nano_coco_flir_1pct.py'

model = dict(adapt=dict(_delete_=True, type='Full'))
optim_wrapper = dict(optimizer=dict(lr=3e-4))
