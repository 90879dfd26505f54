"""The launchers of test/*.sh: args.py is the command line, run.py runs, report.py is what a harness reads."""
