"""`python -m mmdet COMMAND ...`, and the same by the path of this file, as launchers start their children."""

import sys
from pathlib import Path

if not __package__:  # run by its path: the package's parent is what must be on the path, not the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from mmdet.commands.main import main

if __name__ == "__main__":
    main()
