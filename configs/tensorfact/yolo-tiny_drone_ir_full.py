# Baseline of yolo-tiny_drone_ir.py: full fine-tuning.
_base_ = './yolo-tiny_drone_ir.py'

model = dict(adapt=dict(_delete_=True, type='Full'))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
