"""A file on a web server, read in pieces: of a wheel of 400 MB, its Python sources are 20."""

import io
from typing import Final

import requests
from requests.adapters import HTTPAdapter
from typing_extensions import Buffer
from urllib3 import Retry

_PIECE: Final = 1 << 20  # bytes of one request
_TIMEOUT_S: Final = 60
_RETRIES: Final = Retry(total=4, backoff_factor=0.5, status_forcelist=[500, 502, 503, 504], raise_on_status=False)


def opened(url: str) -> io.BufferedReader | None:
    """The file behind `url`, seekable; None where the server does not send parts of files.

    Raises:
        requests.RequestException: the server cannot be asked; reading raises it, too.
    """
    session = requests.Session()
    session.mount("http", HTTPAdapter(max_retries=_RETRIES))
    with session.get(url, headers={"Range": "bytes=0-0"}, timeout=_TIMEOUT_S, stream=True) as answer:
        answer.raise_for_status()
        size = answer.headers.get("Content-Range", "").rpartition("/")[2]
        if answer.status_code != requests.codes.partial_content or not size.isdigit():
            return None
    return io.BufferedReader(_Parts(session, url, int(size)), _PIECE)


class _Parts(io.RawIOBase):
    """Each read is one request (RFC 9110, section 14)."""

    def __init__(self, session: requests.Session, url: str, size: int) -> None:
        self._session = session
        self._url = url
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        end = min(self._at + len(view), self._size)
        if self._at >= end:
            return 0
        part = {"Range": f"bytes={self._at}-{end - 1}"}
        answer = self._session.get(self._url, headers=part, timeout=_TIMEOUT_S)
        answer.raise_for_status()
        view[: len(answer.content)] = answer.content
        self._at += len(answer.content)
        return len(answer.content)

    def close(self) -> None:
        if not self.closed:
            self._session.close()
        super().close()
