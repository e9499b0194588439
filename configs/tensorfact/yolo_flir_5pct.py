# Infrared stage on 5 % of FLIR's training images: 443 images, 12 steps per epoch.
_base_ = './yolo_flir_1pct.py'

subset = dict(frac=0.05, seed=0)
train_dataloader = dict(
    dataset=dict(dataset=dict(subset=dict(_delete_=True, **subset)))
)
