"""Checkpoints: files.py is ours, foreign.py reads those of other programs, publish.py strips one."""
