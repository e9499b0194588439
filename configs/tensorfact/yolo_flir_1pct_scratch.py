# Baseline: the dense network without any RGB knowledge.
_base_ = './yolo_flir_1pct.py'

load_from = None
model = dict(factorize=None)
