# PedMix of whole regions in place of patches.
_base_ = './tmpa_r50_sysu.py'

model = dict(data_preprocessor=dict(pedmix=dict(unit='region')))
