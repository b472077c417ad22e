"""Fetches the Python sources of a released wheel from a package index (PEP 691), without installing it."""

import contextlib
import hashlib
import zipfile
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import requests
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from pipeline.core.errors import ConfigError
from pipeline.core.values import value
from pipeline.engines.catalogues import remote

INDEX = "https://pypi.org/simple"
_JSON = "application/vnd.pypi.simple.v1+json"
_TIMEOUT_S = 60
_CHUNK = 1 << 20


@value
class Wheel:
    """One released wheel, as the index lists it."""

    filename: str
    version: str
    url: str
    sha256: str


def find(name: str, version: str, index: str = INDEX) -> Wheel:
    """The wheel of a version: for x86-64 Linux, or for any machine.

    Raises:
        ConfigError: the index cannot be asked, or has no such version; the message names the newest it has.
    """
    wheels = [wheel for wheel in _listed(name, index) if _fits(wheel.filename)]
    found = [wheel for wheel in wheels if Version(wheel.version) == Version(version)]
    if found:
        return max(found, key=_rank)
    newest = sorted({Version(wheel.version) for wheel in wheels}, reverse=True)[:12]
    raise ConfigError(
        f"{name}=={version}: {index} does not have this wheel. "
        f"Newest versions there: {', '.join(map(str, newest)) or 'none'}."
    )


def releases(name: str, index: str = INDEX) -> tuple[str, ...]:
    """Every version that has a wheel for x86-64 Linux, oldest first, without pre-releases and yanked ones.

    Raises:
        ConfigError: the index cannot be asked.
    """
    found = {Version(wheel.version) for wheel in _listed(name, index) if _fits(wheel.filename)}
    return tuple(str(version) for version in sorted(found) if not version.is_prerelease)


def sources(wheel: Wheel, folder: Path, told: Callable[[int, int], object]) -> bool:
    """Write the wheel's Python sources under `folder`, fetching little else.

    False: the server sends whole files only, and nothing was written.

    The files' own checksums (CRC-32) are checked, not the wheel's: most of it is never seen.

    Raises:
        ConfigError: it cannot be fetched.
    """
    try:
        with contextlib.ExitStack() as stack:
            file = remote.opened(wheel.url)
            if file is None:
                return False
            archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(file)))
            members = [item for item in archive.infolist() if item.filename.endswith(".py")]
            sizes = accumulate(item.compress_size for item in members)
            total = sum(item.compress_size for item in members)
            for item, so_far in zip(members, sizes, strict=True):
                archive.extract(item, folder)
                told(so_far, total)
    except (requests.RequestException, OSError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{wheel.url}: the download failed: {error}") from error
    return True


def download(wheel: Wheel, folder: Path, told: Callable[[int, int], object]) -> Path:
    """The wheel's file in `folder`; `told(bytes so far, bytes in all)` is called as it grows.

    Raises:
        ConfigError: it cannot be fetched, or its checksum is not the one that the index lists.
    """
    path = folder / wheel.filename
    digest = hashlib.sha256()
    try:
        with requests.get(wheel.url, stream=True, timeout=_TIMEOUT_S) as answer, path.open("wb") as file:
            answer.raise_for_status()
            total = int(answer.headers.get("Content-Length", 0))
            for chunk in answer.iter_content(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
                told(file.tell(), total)
    except requests.RequestException as error:
        raise ConfigError(f"{wheel.url}: the download failed: {error}") from error
    if digest.hexdigest() != wheel.sha256:
        raise ConfigError(f"{wheel.url}: sha256 is {digest.hexdigest()}, the index says {wheel.sha256}.")
    return path


def unpack(path: Path, folder: Path) -> None:
    """Write the wheel's Python sources under `folder`; nothing is run.

    Raises:
        ConfigError: the file is no wheel.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder, [name for name in archive.namelist() if name.endswith(".py")])
    except (OSError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path}: cannot be read as a wheel: {error}") from error


def sha256(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _listed(name: str, index: str) -> list[Wheel]:
    try:
        answer = requests.get(f"{index}/{name}/", headers={"Accept": _JSON}, timeout=_TIMEOUT_S)
        answer.raise_for_status()
        files = answer.json()["files"]
    except (requests.RequestException, KeyError, ValueError) as error:
        raise ConfigError(f"{index}/{name}/: the package index cannot be reached: {error}") from error
    return [wheel for wheel in map(_wheel, files) if wheel]


def _wheel(file: Mapping[str, Any]) -> Wheel | None:
    if file.get("yanked"):
        return None
    try:
        version = parse_wheel_filename(file["filename"])[1]
        return Wheel(filename=file["filename"], version=str(version), url=file["url"], sha256=file["hashes"]["sha256"])
    except (InvalidWheelFilename, KeyError):
        return None


def _rank(wheel: Wheel) -> tuple[bool, tuple[int, str] | tuple[()], str]:
    """The wheel that pip would take comes last: a rebuilt one has a higher build number."""
    return "x86_64" in wheel.filename, parse_wheel_filename(wheel.filename)[2], wheel.filename


def _fits(filename: str) -> bool:
    platforms = {tag.platform for tag in parse_wheel_filename(filename)[3]}
    return any(platform == "any" or ("linux" in platform and "x86_64" in platform) for platform in platforms)
