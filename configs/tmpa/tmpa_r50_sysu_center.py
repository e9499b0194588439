# PedMix in the center only.
_base_ = './tmpa_r50_sysu.py'

ratios = (0.5, 0.0, 0.0)
model = dict(data_preprocessor=dict(pedmix=dict(ratios=ratios)))
