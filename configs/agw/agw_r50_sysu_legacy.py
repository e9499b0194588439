# The triplet loss as the published code computes it, to compare with its numbers.
_base_ = './agw_r50_sysu.py'

model = dict(head=dict(metric=dict(wrt=dict(legacy=True))))
