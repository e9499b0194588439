# Baseline of yolo-tiny_flir_1pct.py: every parameter of the dense network trains.
_base_ = './yolo-tiny_flir_1pct.py'

load_from = 'work_dirs/yolo-tiny_rgb/merged.pth'
model = dict(factorize=None)
