# DamoFD-34G with five facial landmarks.
_base_ = ["DamoFD_34g.py"]
model = dict(bbox_head=dict(use_kps=True))
