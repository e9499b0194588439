# MFT with attention in windows of 7x7, as in ACmix (Pan et al., CVPR 2022).
_base_ = './tmpa_r50_sysu.py'

model = dict(backbone=dict(transfer=dict(reach='local')))
