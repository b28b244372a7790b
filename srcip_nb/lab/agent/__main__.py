"""Start of ``python -I -S DIRECTORY``: make the directory importable as the package ``agent``, then serve."""

from __future__ import annotations

import os
import sys

# Last on the path, so that nothing beside the package can stand in for a module of the standard library.
del sys.path[0]
sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from agent.server import main  # type: ignore[import-not-found]  # noqa: E402

sys.exit(main())
