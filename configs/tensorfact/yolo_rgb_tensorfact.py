# RGB stage of TensorFact: yolo_rgb.py with factorized convolutions.
_base_ = './yolo_rgb.py'

# =========================== values one may change ============================
# Each 3x3 kernel is stored as `rank` patterns and their mixing weights. alpha=1 keeps
# about as many parameters as the dense kernel: rank 8 of at most 9.
rank = dict(alpha=1.0)

# ========================= values that rarely change ==========================
load_from = None  # or a dense RGB checkpoint, which is factorized on load
model = dict(
    type='mmir.Adapted',
    target='mmir.YOLOv7',
    adapt=dict(type='TensorFact', rank=rank, delta=None, exclude=['bbox_head']),
)
