"""Checkpoints, read without running what they hold.

`files` writes ours whole and reads them; `integrity` says whether one is whole and bounded; `foreign` reads
those of other programs; `keys` is the one rule for where weights are and which fit a model; `publish` strips
one to its weights.
"""
