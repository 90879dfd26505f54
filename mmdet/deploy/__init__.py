"""From a trained model to faces without torch: ONNX files, a detector on onnxruntime, tools around both.

    from mmdet.deploy import SCRFD
    detector = SCRFD("model.onnx")
    bboxes, kps = detector.detect(image)

Read in this order: `letterbox` and `decode` (numpy: picture in, faces out), `session` (what an ONNX file
offers), `ort_detector` (SCRFD), `inputs`, `writers`, `draw`, `run` (tools/scrfd.py), `web`. These import no
torch. `export_onnx`, `verify`, `convert`, `foreign` and `publish` do: they make the files.
"""

from mmdet.deploy.runtime.decode import Faces
from mmdet.deploy.runtime.ort_detector import SCRFD

__all__ = ["SCRFD", "Faces"]
