# Baseline: no RGB knowledge.
_base_ = './yolo_flir_1pct_full.py'

load_from = None
