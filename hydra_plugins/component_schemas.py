"""``/schema/<group>/<class>`` in a defaults list: the schema of a component's class.

Hydra copies all that its own store holds whenever it composes, and for every group that ``--help``
lists. A source of configs holds nothing.
"""

from copy import deepcopy

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource

from rlcredit.commands.schema import stored_schema


class ComponentSchemas(ConfigSource):
    """Has a config for every component class; they are no choices, so it lists no group."""

    @staticmethod
    def scheme() -> str:
        """What stands before ``://`` in the search path."""
        return "components"

    def load_config(self, config_path: str) -> ConfigResult:
        """A copy of a schema: Hydra makes a run's config out of it."""
        found = stored_schema(config_path)
        assert found is not None, "Hydra asks is_config first"
        return ConfigResult(
            provider=self.provider,
            path=self.full_path(),
            config=deepcopy(found),
            header={"package": None},
        )

    def is_config(self, config_path: str) -> bool:
        """Whether a path names a component's schema."""
        return stored_schema(config_path) is not None

    def is_group(self, config_path: str) -> bool:
        """No: a schema is asked for by its whole path."""
        return False

    def available(self) -> bool:
        """The classes are always there."""
        return True

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Nothing, as there are no groups."""
        return []
