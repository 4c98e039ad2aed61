"""The bench: what Tremor's instruments cost, measured against the machine they run on, in one run.

Each module of :mod:`bench.instruments` measures one instrument; a new one is found by being there.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT / "workflow") not in sys.path:
    sys.path.insert(0, str(ROOT / "workflow"))
