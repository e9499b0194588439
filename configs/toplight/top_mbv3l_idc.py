# Without the fake domain loss: row 4 of table 3.
_base_ = './top_mbv3l.py'

model = dict(head=dict(domain=None))
