"""The site, built once a session, without running the tour."""

from pathlib import Path

import pytest
from building import built_site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    return built_site(tmp_path_factory.mktemp("docs"), "-D", "nb_execution_mode=off")
