"""Schemas of components: found by their path, copied for each config, in no list of choices."""

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.config_source import ConfigLoadError

from hydra_plugins.component_schemas import ComponentSchemas
from rlcredit.commands.conf import composing, conf_folder
from rlcredit.commands.schema import register
from rlcredit.losses import ClippedSurrogate

PATH = "schema/loss/clippedsurrogate"


@pytest.fixture
def source():
    return ComponentSchemas(provider="rlcredit", path="components://")


def test_a_schema_that_hydra_changes_is_whole_the_next_time(source):
    source.load_config(PATH).config.clip_high = 9.0
    assert source.load_config(PATH).config.clip_high == ClippedSurrogate().clip_high


def test_schemas_are_no_choices_and_hydra_has_none_to_copy():
    register()
    with composing(conf_folder()):
        groups = GlobalHydra.instance().config_loader().list_groups("")
    assert "estimator" in groups
    assert "schema" not in groups
    assert "schema" not in ConfigStore.instance().repo


def test_the_schema_of_no_component_is_refused_by_its_path(source):
    assert source.is_config(PATH)
    assert not source.is_config("schema/loss/nothing")
    with pytest.raises(ConfigLoadError, match="schema/loss/nothing is the schema of no component"):
        source.load_config("schema/loss/nothing")
