# Infrared stage on 10 % of FLIR's training images: 886 images, 23 steps per epoch.
_base_ = './yolo_flir_1pct.py'

subset = dict(frac=0.1, seed=0)
train_dataloader = dict(
    dataset=dict(dataset=dict(subset=dict(_delete_=True, **subset)))
)
