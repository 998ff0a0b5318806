"""A file is as it was or as it is to be, and no draft stays."""

import pytest

from gansweep.drafts import remove_drafts, replacing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_half(path):
    with replacing(path) as draft:
        draft.write_text("ne")
        raise OSError("full")


def test_the_draft_becomes_the_file(tmp_path):
    path = tmp_path / "a.json"
    for text in ("old", "new"):
        with replacing(path) as draft:
            draft.write_text(text)
            assert names(tmp_path) == sorted({draft.name, *(["a.json"] if text == "new" else [])})
        assert path.read_text() == text
        assert names(tmp_path) == ["a.json"]


def test_an_error_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(OSError, match="full"):
        write_half(path)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.json"]


def test_a_link_of_the_file_itself_does_not_stay(tmp_path):
    """rename(2) does nothing where both names are of one file."""
    path = tmp_path / "a.json"
    path.write_text("old")
    with replacing(path) as draft:
        draft.hardlink_to(path)
    assert names(tmp_path) == ["a.json"]
    assert path.read_text() == "old"


def test_two_writers_do_not_meet_in_a_draft(tmp_path):
    path = tmp_path / "a.json"
    with replacing(path) as one:
        one.write_text("one")
        with replacing(path) as other:
            other.write_text("other")
        assert path.read_text() == "other"
    assert path.read_text() == "one"


def test_drafts_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    (tmp_path / ".hidden").touch()
    (tmp_path / "a.draft").touch()
    writer = replacing(tmp_path / "a.json")
    writer.__enter__().write_text("half")  # and is killed
    assert len(names(tmp_path)) == 3
    remove_drafts(tmp_path)
    assert names(tmp_path) == [".hidden", "a.draft"]
    remove_drafts(tmp_path / "not there")
