"""Which numbers are half precision and which are fp32, for training at O0, O1 and O2.

Read levels.py (`Precision`, what the trainer talks to), islands.py (which layers stay fp32), flat.py
(master weights and gradients in one buffer per dtype), grads.py (norm, clipping, a step that the
device itself may refuse), apex.py (the optional apex backend).
"""

from mmdet.precision.levels import Precision

__all__ = ["Precision"]
