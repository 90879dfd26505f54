"""From a checkpoint to ONNX and back; imports torch.

Read in this order: `export_onnx` with `merge_heads` and `graph_nms`, `verify` (the file against torch),
`onnx_weights` and `calibrate` (back to a checkpoint), `convert` and `om_check`.
"""
