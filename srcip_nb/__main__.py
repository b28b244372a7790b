"""``python -m srcip_nb`` is ``srcip-nb``."""

from __future__ import annotations

import sys

from srcip_nb.cli import main

sys.exit(main())
