# Baseline of yolo-tiny_drone_ir.py: every parameter of the dense network trains.
_base_ = './yolo-tiny_drone_ir.py'

load_from = 'work_dirs/yolo-tiny_drone_rgb/merged.pth'
model = dict(factorize=None)
