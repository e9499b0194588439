# Baseline: LoRA for convolutions on the dense model. A frozen kernel of full rank is
# the dense one; the delta is a k x k convolution to few channels, then a 1x1 one.
_base_ = './yolo_flir_1pct.py'

load_from = 'work_dirs/yolo_rgb/merged.pth'
model = dict(
    factorize=dict(
        rank='full',
        split='t_sdd',
        skip_growing=False,
        delta=dict(rank=20),  # as many trainable parameters as yolo_flir_1pct.py
    )
)
