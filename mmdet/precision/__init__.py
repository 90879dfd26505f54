"""Which numbers are half precision and which are fp32, for training at O0, O1 and O2.

Read levels.py (`Precision`, what a training step uses), islands.py (which layers stay fp32), flat.py
(master weights and gradients in one buffer per dtype), grads.py (norm, clipping, a step that the
device may skip), apex.py (the optional apex backend).
"""

from mmdet.precision.levels import Precision

__all__ = ["Precision"]
