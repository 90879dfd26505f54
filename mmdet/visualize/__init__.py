"""What people look at: boxes and points drawn into images, the table and the curves of a run. No torch here.

Read draw (boxes, points, sheets of images), then results (results.csv and results.png). What draws while
training is a hook: mmdet/engine/results_hook.py, sheet_hook.py and progress_hook.py.
"""
