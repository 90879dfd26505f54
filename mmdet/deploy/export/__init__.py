"""From a checkpoint to ONNX and back; imports torch."""
