"""Everything in this folder is marked gpu and skipped where there is no CUDA device.

Imports only torch, transformers, numpy and the instruments: these tests run on a bare machine with a GPU.
"""

from pathlib import Path

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    missing = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(missing)


@pytest.fixture(autouse=True)
def _float32_means_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 off: a 10-bit product would hide what these tests look at."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
