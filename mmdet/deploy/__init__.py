"""From a trained model to faces without torch: ONNX files, a detector on onnxruntime, tools around both.

    from mmdet.deploy import SCRFD
    detector = SCRFD("model.onnx")
    bboxes, kps = detector.detect(image)

Three rooms: runtime/ finds faces in arrays (numpy, OpenCV and onnxruntime alone); cli/ and web/ read what
users have and write what they want, also without torch; export/ makes the files and imports torch.
"""

from mmdet.deploy.runtime.decode import Faces
from mmdet.deploy.runtime.options import DetectOptions
from mmdet.deploy.runtime.ort_detector import FaceDetector

SCRFD = FaceDetector  # the name in the reference's runtime; mmdet.models has the network of that name

__all__ = ["SCRFD", "DetectOptions", "FaceDetector", "Faces"]
