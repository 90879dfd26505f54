"""The inference interface of ternaus/retinaface: `get_model`, `predict_jsons`, and a folder at once.

Read predictor.py (one image), then folder.py (tools/retinaface.py).
"""

from mmdet.retinaface.predictor import Predictor, get_model

__all__ = ["Predictor", "get_model"]
