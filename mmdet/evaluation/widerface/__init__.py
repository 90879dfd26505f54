"""The WIDER FACE protocol: its files, its average precision, its ground truth for any label file.

Read files, ap, from_labels, mat, curves. Nothing here imports torch.
"""
