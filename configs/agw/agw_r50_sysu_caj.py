# Channel augmentation, random erasing and the squared triplet loss of CAJ (Ye et al.,
# ICCV 2021). Its third branch, which sees every RGB image twice, is left out.
_base_ = './agw_r50_sysu.py'

erase = dict(
    type='mmpretrain.RandomErasing',
    erase_prob=0.5,
    min_area_ratio=0.02,
    max_area_ratio=0.4,
    aspect_range=0.3,
    mode='const',
    fill_color=(129, 144, 152),  # the published fill, 0.49 after normalization
)
steps = [_base_.load, _base_.resize, _base_.crop, _base_.flip]
train_dataloader = dict(
    dataset=dict(
        pipeline=[*steps, erase, dict(type='mmir.ChannelAugment'), _base_.pack]
    )
)
model = dict(head=dict(metric=dict(wrt=dict(squared=True))))
