"""What a model learns from: outputs and faces in, losses out."""
