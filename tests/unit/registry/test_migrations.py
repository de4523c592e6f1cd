"""The registry's migrations."""

from __future__ import annotations

from alembic.config import Config
from alembic.script import ScriptDirectory

from kryonix.registry.migrations.versions import NEWEST


def test_the_stated_revision_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", "kryonix.registry:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [NEWEST]
