"""The launchers of test/*.sh, and child trainings for whoever starts them.

Read args.py (a launcher's command line), run.py (train, evaluate, report), jobs.py (child processes; also for
campaigns) and report.py (the lines a harness reads).
"""
