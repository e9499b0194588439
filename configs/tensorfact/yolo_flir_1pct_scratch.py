# Baseline: training from scratch, without an RGB stage.
_base_ = './yolo_flir_1pct_full.py'

load_from = None
