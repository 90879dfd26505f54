"""Architecture search: DamoFD's zero-cost evolution, SCRFD's two-step sampling, and campaigns that train.

Evolution: space.py (which mutations), score.py (what a structure is worth without training), proxies.py
(other scores, with torch), evolve.py (the loop), ddsar.py (from settings to files).
Two steps: cost.py (exact FLOPs of whole arrays of candidates), sample.py (the paper's draws and its rules),
generate.py (config files). Campaigns: study.py (the Optuna storage), candidates.py (what is trained),
split.py (images that decide), latency.py (a constraint), campaign.py (workers and their child trainings),
rank.py (best, certainty, correlation), commands.py (of search.py). plot.py draws for all three; settings.py
reads the files of configs/search/.
"""
