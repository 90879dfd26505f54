"""From a checkpoint to ONNX and back; imports torch, but for `quantize`, `om` and `om_check`.

Read in this order: `export_onnx` with `graph_nms`, `verify` (the file against torch),
`onnx_weights` and `calibrate` (back to a checkpoint), `convert`, `om_check`, `quantize` (int8).
"""
