# Baseline: full fine-tuning of all parameters on the same 62 images, with the same
# schedule and augmentation, from the same RGB model.
_base_ = './yolo_flir_1pct.py'

model = dict(adapt=dict(_delete_=True, type='Full'))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
