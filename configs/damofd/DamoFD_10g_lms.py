# DamoFD-10G with five facial landmarks.
_base_ = ["DamoFD_10g.py"]
model = dict(bbox_head=dict(use_kps=True))
