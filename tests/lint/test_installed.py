"""What the lint says of libraries that are installed: each hit was read by hand, and none is false."""

from __future__ import annotations

import importlib.util
import time
from collections import Counter
from pathlib import Path

import pytest

from torchdecay.integrations.lint.lint import lint

VERDICTS = {
    "accelerate": {
        # Example scripts that train BERT and test models whole, at AdamW's own 0.01: biases and norms decay.
        ("WD501", "test_utils/scripts/test_sync.py"): 2,
        ("WD501", "test_utils/scripts/external_deps/test_ds_multiple_model.py"): 3,
    },
    "lightning": {},
    "peft": {},
    "pytorch_lightning": {},
    "skorch": {},
    "timm": {},
    "torch": {
        # Written for Python 3.12: not to be parsed by 3.11.
        ("WD500", "testing/_internal/py312_intrinsics.py"): 1,
    },
    "transformers": {},
}
"""Library → what is said of which file, how often; all of it true."""
LARGE = {"torch", "transformers"}
pytestmark = pytest.mark.long


@pytest.mark.parametrize("library", [pytest.param(one, marks=[pytest.mark.slow] * (one in LARGE)) for one in VERDICTS])
def test_each_hit_was_read_and_is_true(library: str) -> None:
    spec = importlib.util.find_spec(library)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{library} is not installed")
    folder = Path(spec.submodule_search_locations[0])
    started = time.process_time()
    found = [one for one in lint([folder]) if one.severity != "info" and one.place is not None]
    said = Counter(
        (one.code, Path(one.place.path).resolve().relative_to(folder).as_posix()) for one in found if one.place
    )
    # Files for a newer Python than this one are read by that one.
    assert {key: n for key, n in said.items() if key[0] != "WD500" or key in VERDICTS[library]} == VERDICTS[library]
    assert time.process_time() - started < 25
