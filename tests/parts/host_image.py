"""An image without a registry: this machine's own Python at its own path, with what it needs and a shell."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import docker

NAME = "servetune-test/host-python:1"
SHELL = Path("/bin/sh")
LEFT_OUT = {
    "test",
    "tests",
    "site-packages",
    "dist-packages",
    "idlelib",
    "tkinter",
    "ensurepip",
    "lib2to3",
    "turtledemo",
}
FOLDERS = ("tmp", "proc", "sys", "dev", "root")
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
# What Python packages with compiled parts want, and glibc at run time: no interpreter of ours links them all.
MORE_LIBRARIES = (
    *("libgcc_s.so.1", "libstdc++.so.6", "libgomp.so.1", "libm.so.6"),
    *("librt.so.1", "libpthread.so.0", "libdl.so.2", "libutil.so.1", "libresolv.so.2"),
    *("libnss_dns.so.2", "libnss_files.so.2"),
)


def load(host: str, folder: Path) -> str:
    """Give the image to the daemon at `host`; its name. `folder` takes the archive."""
    archive = folder / "image.tar"
    _write(archive)
    path = f"{_prefix() / 'bin'}:/bin"
    repository, tag = NAME.split(":")
    client = docker.APIClient(base_url=host)
    try:
        client.import_image(str(archive), repository=repository, tag=tag, changes=[f"ENV PATH={path}"])
    finally:
        client.close()
        archive.unlink()
    return NAME


def _write(archive: Path) -> None:
    python = _prefix() / "bin" / f"python{sysconfig.get_python_version()}"
    stdlib = Path(sysconfig.get_path("stdlib"))
    modules = sorted((stdlib / "lib-dynload").glob("*.so"))
    with tarfile.open(archive, "w", dereference=True) as tar:
        for name in FOLDERS:
            _add_entry(tar, name, tarfile.DIRTYPE, mode=0o777)
        for name, text in FILES.items():
            _add_entry(tar, name, tarfile.REGTYPE, data=text.encode())
        for path in {python, SHELL, *_libraries([python, SHELL, *modules])}:
            tar.add(path)
        tar.add(stdlib, filter=_without_tests)
        for link in ("python", "python3"):
            _add_entry(tar, str(python.with_name(link)), tarfile.SYMTYPE, target=python.name)
        if sys.executable != str(python):  # so that it runs without the virtual environment too, then without packages
            _add_entry(tar, sys.executable, tarfile.SYMTYPE, target=str(python))
        if _prefix() != _prefix().resolve():  # its own idea of where it is may be either
            _add_entry(tar, str(_prefix().resolve()), tarfile.SYMTYPE, target=str(_prefix()))


def _prefix() -> Path:
    """Of the interpreter below the virtual environment."""
    return Path(sys.base_prefix)


def _without_tests(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = Path(entry.name).name
    return None if name in LEFT_OUT or name.startswith(("config-3", "_tkinter")) else entry


def _libraries(programs: Iterable[Path]) -> Iterator[Path]:
    """Where the loader finds what they are linked with, as it spells it."""
    said = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    known = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    found = set(re.findall(r"(/\S+\.so\S*) \(0x", said))
    for name in MORE_LIBRARIES:
        found.update(re.findall(rf"{re.escape(name)} \(libc6,(?:x86-64|AArch64).*=> (\S+)", known))
    return (Path(os.path.normpath(path)) for path in found)


def _add_entry(
    tar: tarfile.TarFile, name: str, kind: bytes, *, mode: int = 0o755, data: bytes = b"", target: str = ""
) -> None:
    entry = tarfile.TarInfo(name.lstrip("/"))
    entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(data), target
    tar.addfile(entry, io.BytesIO(data))
