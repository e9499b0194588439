# PedMix as an exact exchange: one mask for both images of a pair.
_base_ = './tmpa_r50_sysu.py'

model = dict(data_preprocessor=dict(pedmix=dict(masks='shared')))
