# Label smoothing in the identity loss; 0.1 is from Luo et al., CVPR Workshops 2019.
_base_ = './agw_r50_sysu.py'

model = dict(
    head=dict(
        loss=dict(
            _delete_=True, type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1
        )
    )
)
