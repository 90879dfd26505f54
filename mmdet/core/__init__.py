"""Geometry: what a box, an anchor, a code and a positive are; no layers, no devices, no files.

Read in this order: structures.py (what travels between the stages), bbox.py, anchors.py, coders.py (what the
numbers of a head mean), assigners/ (which anchor learns which face), nms.py, postprocess.py.
"""
