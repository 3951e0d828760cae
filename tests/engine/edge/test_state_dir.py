"""The edge's folder is private, and a planted link in it is not followed."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from engine.edge.state_dir import StateDir, write_atomically
from topics.errors import OperatorError


def test_new_folder_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    StateDir(tmp_path / "edge")

    assert stat.S_IMODE((tmp_path / "edge").stat().st_mode) == 0o700


def test_folder_that_all_may_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "edge"
    folder.mkdir()
    folder.chmod(0o777)

    with pytest.raises(OperatorError, match="private folder"):
        StateDir(folder)


def test_written_file_is_private_and_replaces_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "snapshot"
    write_atomically(file, b"old")
    write_atomically(file, b"new")

    assert file.read_bytes() == b"new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_planted_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim, file = tmp_path / "victim", tmp_path / "snapshot"
    victim.write_bytes(b"untouched")
    (tmp_path / ".snapshot.new").symlink_to(victim)

    write_atomically(file, b"new")

    assert victim.read_bytes() == b"untouched"
    assert file.read_bytes() == b"new"
