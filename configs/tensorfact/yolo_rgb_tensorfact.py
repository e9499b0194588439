# RGB stage of TensorFact: yolo_rgb.py with factorized convolutions.
_base_ = './yolo_rgb.py'

# =========================== values one may change ============================
# One 3x3 kernel is stored as `rank` patterns and their mixture. alpha=1 keeps as many
# parameters as the dense kernel has: rank 8 of at most 9.
rank = dict(alpha=1.0)

# ========================= values that rarely change ==========================
load_from = None  # a dense RGB checkpoint: it is factorized as it loads
model = dict(
    type='mmir.Adapted',
    target='mmir.YOLOv7',
    adapt=dict(type='TensorFact', rank=rank, delta=None, exclude=['bbox_head']),
)
