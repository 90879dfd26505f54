"""Plain-net structure strings and the networks they describe (DamoFD, arXiv via Zen-NAS).

Read structure.py (strings), then cost.py (FLOPs, size, receptive field): both are free of torch, so that a
search loads in no time. blocks.py turns a structure into torch modules; backbones/masternet.py uses it.
"""
