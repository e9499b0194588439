# No PedMix.
_base_ = './tmpa_r50_sysu.py'

model = dict(data_preprocessor=dict(prob=0.0))
