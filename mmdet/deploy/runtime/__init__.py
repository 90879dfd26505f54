"""Detection with onnxruntime and numpy alone; nothing here imports torch."""
