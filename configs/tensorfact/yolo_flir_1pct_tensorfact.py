# Infrared stage of TensorFact as published: the factors of yolo_rgb_tensorfact.py are
# frozen and extended by low-rank deltas.
_base_ = './yolo_flir_1pct.py'

# ========================== values one often changes ==========================
load_from = 'work_dirs/yolo_rgb_tensorfact/epoch_200.pth'  # the RGB stage
base_lr = 1e-3  # paper

# =========================== values one may change ============================
factor_rank = dict(alpha=1.0)  # same as in the RGB stage
delta_rank = 1  # 7.4 % of the parameters of the dense network

# ========================= values that rarely change ==========================
model = dict(
    adapt=dict(
        _delete_=True,
        type='TensorFact',
        rank=factor_rank,
        delta=dict(rank=delta_rank),
        exclude=['bbox_head'],
        name='ir',
        trainable=['bbox_head'],
        norm='all',
    )
)
optim_wrapper = dict(optimizer=dict(lr=base_lr))
