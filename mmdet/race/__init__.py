"""Recipes against each other: the same processor time or images, several seeds, one evaluator.

Read settings.py (what a race file says), budget.py (how long each trains), run.py (trainings and
evaluations), report.py (table and curves). tools/race.py is the command line, docs/recipes.md the manual.
"""
