"""The networks and what they learn from.

Read layers.py, backbones/, necks/, dense_heads/, detectors/scrfd.py; then losses/ and criterion.py;
init.py says how weights start and flops.py counts. Nothing here knows which device it runs on.
"""
