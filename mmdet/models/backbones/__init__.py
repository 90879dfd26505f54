"""Backbones: an image to feature maps of strides 4, 8, 16, 32. Read resnet.py, then mobilenet.py."""
