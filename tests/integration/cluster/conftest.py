"""One cluster for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster, cluster


@pytest.fixture(scope="package")
def three() -> Iterator[Cluster]:
    """Return three nodes; each test leaves all of them running, and its vhost gone."""
    with cluster() as found:
        yield found
