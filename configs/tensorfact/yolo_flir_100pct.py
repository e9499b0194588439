# Infrared stage on all of FLIR's 8,862 training images, 222 steps per epoch.
_base_ = './yolo_flir_1pct.py'

train_dataloader = dict(dataset=dict(dataset=dict(subset=None)))
