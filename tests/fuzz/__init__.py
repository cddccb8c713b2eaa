"""Random and mutated calls of every function, module and raw op, each judged by the reference loop: see __main__.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # tests/cases.py, also where pytest is not
