"""Faces in arrays, with onnxruntime, numpy and OpenCV alone: nothing here imports torch, by test.

Read in this order: `letterbox`, `decode` (image in, faces out), `coders` (what the numbers mean), `session`
and `description` (what an ONNX file offers; `opening` says what it may cost to open it, `join` makes it
faster), `options` (what may be asked), `ort_detector` (all together).
"""
