"""What a real kube-proxy wrote for ten scenarios on three nodes: tests/data/kube-proxy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

TRUTH = Path(__file__).parent.parent / "data" / "kube-proxy"


def recorded(mode: str) -> pytest.MarkDecorator:
    """Parametrize a test by ``truth``, the thirty recordings of a mode."""
    paths = sorted(TRUTH.glob(f"*/*.{mode}"))
    if len(paths) != 30:
        raise AssertionError(f"{len(paths)} recordings of mode {mode} under {TRUTH}, not 30")
    return pytest.mark.parametrize("truth", paths, ids=lambda path: f"{path.parent.name}-{path.stem}")


def written(write: Callable[..., str], truth: Path) -> str:
    """What ``write`` makes of the scenario's objects on the recording's node."""
    with open(truth.with_name("objects.yaml"), encoding="utf-8") as file:
        objects = list(yaml.safe_load_all(file))
    kinds = {kind: [obj for obj in objects if obj["kind"] == kind] for kind in ("Service", "EndpointSlice", "Node")}
    return write(kinds["Service"], kinds["EndpointSlice"], kinds["Node"], truth.stem)
