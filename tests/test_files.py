"""Files of a run: whole or not there, with ordinary permissions, and a sentence where they fail."""

import errno
import os
import stat
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import save_file

from rlcredit.errors import raised_here
from rlcredit.files import append, refused_by_disk, replace_file, whole_file, writing
from tests.full_disk import full_disk


@contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o027, 0o640), (0, 0o666)])
def test_a_file_has_the_permissions_that_the_umask_leaves_whoever_writes_it(
    tmp_path, mask, expected
):
    with umask(mask):
        replace_file(tmp_path / "text", "a")
        append(tmp_path / "lines", "a\n")
        with whole_file(tmp_path / "tensors") as new:
            save_file({"a": torch.zeros(2)}, new)
    assert {mode(path) for path in tmp_path.iterdir()} == {expected}


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one_and_nothing_beside(tmp_path):
    path = tmp_path / "file"
    replace_file(path, "old")
    with full_disk(16), pytest.raises(OSError, match="file cannot be written") as error:
        replace_file(path, "new" * 10)
    assert raised_here(error.value)
    with pytest.raises(UnicodeEncodeError), whole_file(path) as new:
        new.write_text("new\ud83d", encoding="utf-8")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("file", "old")]


def test_a_link_at_the_place_of_a_file_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "file").symlink_to(tmp_path / "theirs")
    replace_file(tmp_path / "file", "ours")
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert (tmp_path / "file").read_text() == "ours"


def test_lines_are_added_whole_or_not_at_all(tmp_path):
    path = tmp_path / "lines"
    append(path, "one\n")
    with full_disk(10), pytest.raises(OSError, match=r"lines cannot be written \(File too large"):
        append(path, "two\nthree\nfour\n")
    assert path.read_text() == "one\n"
    append(path, "zwei é\n")
    assert path.read_text() == "one\nzwei é\n"


def test_a_place_that_is_no_folder_is_named_with_the_cause_and_the_remedy(tmp_path):
    (tmp_path / "file").touch()
    sentence = r"file/a cannot be written \(Not a directory\).*goes on from its last checkpoint"
    with pytest.raises(OSError, match=sentence), writing(tmp_path / "file" / "a"):
        (tmp_path / "file" / "a").mkdir()


def test_what_a_disk_refuses_is_said_and_what_a_network_refuses_is_none_of_it():
    full, port = OSError(errno.ENOSPC, "No space left"), OSError(errno.EACCES, "Permission denied")
    assert "make room there" in refused_by_disk(full)
    assert refused_by_disk(port) is None
    named = OSError(errno.EACCES, "Permission denied", "/a/b")
    assert refused_by_disk(named).startswith("/a/b cannot be used (Permission denied); let this")
    assert refused_by_disk(OSError(errno.ENOENT, "No such file or directory", "/a/b")) is None
