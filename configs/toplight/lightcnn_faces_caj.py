# Channel augmentation: "B+CA" of the paper's table 8.
_base_ = './lightcnn_faces.py'

steps = [_base_.load, _base_.resize, _base_.flip]
train_dataloader = dict(
    dataset=dict(
        pipeline=[*steps, dict(type='mmir.ChannelAugment'), _base_.gray, _base_.pack]
    )
)
