"""Architecture search: DamoFD's zero-cost evolution, SCRFD's two-step sampling, and campaigns that train.

Evolution: space.py (which mutations), score.py (what a structure is worth without training), proxies.py
(other scores, with torch), evolve.py (the loop), ddsar.py (from settings to files).
Two steps: cost.py (exact FLOPs of whole arrays of candidates), sample.py (the paper's draws and its rules),
generate.py (config files). Campaigns: study.py (the Optuna storage), trial.py (one training as child
process), campaign.py (workers), rank.py (best, certainty, correlation). plot.py draws for all three.
"""
