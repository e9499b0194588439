# PedMix with one masking ratio in all regions.
_base_ = './tmpa_r50_sysu.py'

ratios = (0.5, 0.5, 0.5)
model = dict(data_preprocessor=dict(pedmix=dict(ratios=ratios)))
