"""What tools/check_dataset.py does: everything wrong with a data set in one pass, and what it looks like.

Read problems (labels, images, overlap of two sets, the .mat files), statistics, anchors (faces that no anchor
learns), pages (plots, contact sheet, HTML), run (all of it). Nothing but anchors imports torch.
"""
