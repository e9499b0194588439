# MFE with stages 1 and 2 per modality, as in FMCNet (Zhang et al., CVPR 2022).
_base_ = './tmpa_r50_sysu.py'

model = dict(backbone=dict(variant='full'))
