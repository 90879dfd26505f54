"""The commands: each module's docstring is its help, its main() reads arguments and calls the library once.

`scrfd NAME` (main.py has the table) and the scripts in tools/ of a checkout run the same main(). No module
imports torch, numpy or mmengine before its arguments are read, so that --help answers at once.
"""
