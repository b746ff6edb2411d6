"""conf/ is read behind every other folder of configs, so that one may hold only what differs."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from rlcredit.commands.conf import conf_folder


class ConfFolder(SearchPathPlugin):
    """Appends this package's configs and schemas, whatever the primary folder is."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra before anything is composed."""
        search_path.append(provider="rlcredit", path=f"file://{conf_folder()}")
        search_path.append(provider="rlcredit", path="components://")
