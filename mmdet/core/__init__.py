"""Geometry: what a box, an anchor and a positive are; no layers, no devices, no files.

Read in this order: structures.py, bbox.py, anchors.py, assigners/atss.py, nms.py, postprocess.py.
"""
