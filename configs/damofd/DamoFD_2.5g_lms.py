# DamoFD-2.5G with five facial landmarks.
_base_ = ["DamoFD_2.5g.py"]
model = dict(bbox_head=dict(use_kps=True))
