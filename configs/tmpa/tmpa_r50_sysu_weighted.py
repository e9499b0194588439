# The fusion of FMCNet (Zhang et al., CVPR 2022): a weighted sum.
_base_ = './tmpa_r50_sysu.py'

model = dict(
    neck=dict(fusion='weighted'),
    head=dict(in_channels=2 * 2048),
)
