"""A file that is cut off, damaged or of another shape is a gap with its name; the rest is shown."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlcredit.evaluation.on_disk import evaluation_path
from rlcredit.run.folder import SUMMARY_FILE
from rlcredit.tables.render import markdown


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-20])


def corrupt(path):
    """Turns one bit of every 40th byte of the data pages; lengths and footer stay."""
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 4, len(data) // 2, 40):
        data[place] ^= 0x10
    path.write_bytes(bytes(data))


def no_parquet(path):
    path.write_bytes(b"{}")


def other_columns(path):
    pq.write_table(pa.table({"digest": ["ospo0"]}), path)


def missing(path):
    path.unlink()


DAMAGE = (cut_off, corrupt, no_parquet, other_columns, missing)


def gaps(grid, column):
    return " | ".join(grid.cells["esci", "ospo", column].gaps)


@pytest.fixture
def kept(outputs, keep):
    """Seed 0 of OSPO as a kept record alone."""
    folder = outputs / "esci" / "ospo" / "seed0"
    made = keep(folder)
    (folder / SUMMARY_FILE).unlink()
    return made


@pytest.mark.parametrize("damage", DAMAGE)
def test_without_its_families_a_record_has_no_scores_lest_intervals_be_too_narrow(
    damage, filled, kept
):
    damage(kept.file("families", part="0000"))
    assert f"{kept.folder}#ospo0: scores cannot be read (" in gaps(filled(), "ndcg")


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_scores_are_a_gap_and_the_rest_is_shown(damage, filled, kept):
    damage(kept.file("scores", part="0000", data="esci"))
    grid = filled()
    assert f"{kept.folder}#ospo0: scores cannot be read (" in gaps(grid, "ndcg")
    assert "restore the file" in gaps(grid, "ndcg")
    assert list(grid.cells["esci", "ospo", "ndcg"].per_seed) == list(range(1, 8))
    assert list(grid.cells["esci", "ospo", "evaluations"].per_seed) == list(range(8))
    assert "scores cannot be read" in markdown(grid)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_log_is_a_gap_and_the_scores_are_shown(damage, filled, kept):
    damage(kept.file("metrics", part="0000", data="esci"))
    grid = filled()
    assert f"{kept.folder}#ospo0: metrics cannot be read (" in gaps(grid, "evaluations")
    assert list(grid.cells["esci", "ospo", "ndcg"].per_seed) == list(range(8))
    assert list(grid.cells["esci", "ospo", "evaluations"].per_seed) == list(range(1, 8))


@pytest.mark.parametrize("damage", [cut_off, corrupt, no_parquet, other_columns])
def test_a_damaged_index_is_named_and_its_runs_are_gaps(damage, filled, kept):
    path = kept.file("index", part="0000")
    damage(path)
    grid = filled()
    assert 0 not in grid.cells["esci", "ospo", "ndcg"].per_seed
    assert any(str(path) in problem for problem in grid.problems)


def test_a_part_that_was_cut_short_is_not_there_and_its_number_not_taken_again(
    filled, kept, keep, outputs
):
    kept.file("index", part="0000").unlink()  # it is written last
    assert 0 not in filled().cells["esci", "ospo", "ndcg"].per_seed
    again = keep(outputs / "esci" / "ospo" / "seed1")
    assert again.file("index", part="0001").exists()
    assert len(again.runs) == 1


def test_scores_that_are_not_one_for_each_query_are_a_gap(filled, kept):
    path = kept.file("scores", part="0000", data="esci")
    table = pq.read_table(path)
    short = [values[:-1] for values in table["values"].to_pylist()]
    column = pa.array(short, table.schema.field("values").type)
    pq.write_table(table.set_column(3, table.schema.field("values"), column), path)
    assert "has 11 scores for 12 queries" in gaps(filled(), "ndcg")


@pytest.mark.parametrize("content", ["[]", "3", '{"scores": 3}', '{"scores": [[]]}', "{"])
def test_an_evaluation_of_another_shape_is_a_gap(content, filled, outputs):
    run = outputs / "esci" / "ospo" / "seed0"
    evaluation_path(run, "test", "after").write_text(content)
    grid = filled()
    assert f"{run}: scores cannot be read (test-after.json: " in gaps(grid, "ndcg")
    assert 0 in grid.cells["esci", "ospo", "evaluations"].per_seed


@pytest.mark.parametrize("content", ["[]", '{"measures": []}', "nothing", "{"])
def test_a_summary_of_another_shape_is_a_gap(content, filled, outputs):
    path = outputs / "esci" / "ospo" / "seed0" / SUMMARY_FILE
    path.write_text(content)
    grid = filled()
    assert 0 not in grid.cells["esci", "ospo", "ndcg"].per_seed
    assert any(str(path) in problem for problem in grid.problems)
