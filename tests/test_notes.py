"""What is told as a note, and how."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from PIL import Image
from sweep_files import TEXT

from gansweep.notes import Note, tell_notes


def test_notes_are_told_once_and_other_warnings_as_ever(
    capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    with warnings.catch_warnings():
        tell_notes()
        warnings.simplefilter("always")
        for text in ("a", "b", "a"):
            warnings.warn(text, Note, stacklevel=1)
        warnings.warn("c", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "note: a\nnote: b\n"
    assert [str(each.message) for each in recwarn] == ["c"]


@pytest.mark.parametrize("command", ["plan", "train"])
def test_commands_tell_them(gansweep, work: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(12):
        Image.new("L", (8, 8), i).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "photos" / "x.heic").touch()
    (work / "file.yaml").write_text(TEXT)
    data = f"{{name: image_folder, path: {tmp_path}/photos, size: 8, batch_size: 4}}"
    words = ("file.yaml", f"trial.data={data}", "--dir", tmp_path / "runs")
    code, _, err = gansweep(command, *words)
    assert code == 0, err
    assert f"note: {tmp_path}/photos: 1 picture passed over (.heic), as " in err
    assert "Warning" not in err
