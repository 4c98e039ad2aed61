"""One cluster for all tests of this folder, and a checkout on it; without SLURM's programs they are skipped."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.cluster import PACKAGES, Cluster, missing

REASON = (
    f"SLURM is not installed ({', '.join(missing())} missing): apt-get install --no-install-recommends "
    + " ".join(PACKAGES)
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make test` runs all of tests/; a cluster is only started by `make test-slurm`."""
    here = Path(__file__).parent
    for item in items:
        if here not in item.path.parents:
            continue
        if "TREMOR_SLURM" not in os.environ:
            item.add_marker(pytest.mark.skip(reason="run by `make test-slurm`"))
        elif missing():
            item.add_marker(pytest.mark.skip(reason=REASON))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running cluster; stopped by pid at the end, whatever happened."""
    found = Cluster(tmp_path_factory.mktemp("slurm"))
    for parent in (found.root, *found.root.parents[:2]):
        parent.chmod(0o711)  # pytest's folders are private; munge's socket must be reachable
    try:
        found.start()
        yield found
    finally:
        found.stop()
