"""No medium passes a door of the server unguarded, whatever its shape and wherever it stands."""

from __future__ import annotations

import pytest

from benchmarks.doors.__main__ import holds, run, table
from benchmarks.doors.files import File, files
from benchmarks.doors.shapes import DOORS, Door

GUARDED = ("png", "pdf", "mp4")
REFUSED = ("svg", "unknown")


@pytest.mark.server
@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_nothing_is_unguarded(door: Door) -> None:
    chosen = [file for file in files() if file.name in (*GUARDED, *REFUSED)]
    found = run([door], chosen)
    assert all(found[name, door.name]["guarded"] for name in GUARDED)
    assert all(not found[name, door.name]["guarded"] for name in REFUSED)
    assert not any(endings["unguarded"] for endings in found.values())
    assert table(found).endswith(" 0 unguarded.")


@pytest.mark.parametrize("file", files(), ids=lambda file: file.name)
def test_an_original_is_found_in_every_encoding(file: File) -> None:
    for shift in range(3):
        shifted = File(name=file.name, mime_type=file.mime_type, data=b"x" * shift + file.data)
        assert holds([{"a": f"See {shifted.base64}."}], file)
    assert holds({"data": file.data}, file)
    assert not holds(["nothing", {"of": b"it"}], file)
