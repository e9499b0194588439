# The identity loss in place of identity consistency: row 3 of table 3.
_base_ = './top_mbv3l_idc.py'

model = dict(head=dict(identity=dict(consistency=0.0)))
