# PedMix beside the plain images: twice the images per step, and the memory.
_base_ = './tmpa_r50_sysu.py'

model = dict(data_preprocessor=dict(mode='append', prob=1.0))
