"""The WIDER FACE protocol: files.py, ap.py, curves.py, and mat.py, which writes ground truth."""
