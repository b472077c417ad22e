"""Fetches Prometheus text and reads samples of it. A server that hangs, drips or never ends costs its deadline."""

import math
import time
from collections.abc import Collection, Iterator, Mapping

import requests
from prometheus_client.parser import text_string_to_metric_families
from urllib3.exceptions import HTTPError, ReadTimeoutError

from pipeline.core.values import value
from pipeline.engines.http import session, words

MOST_BYTES = 16 * 2**20  # vLLM 0.32.0 answers with 48 kB for each engine
PIECE = 65536
PLAIN = {"Accept": "text/plain", "Accept-Encoding": "identity"}  # an engine has better to do than to compress


class Unanswered(Exception):
    """There is no text to read; why, in words. `is_slow`: it did not come in time."""

    def __init__(self, why: str, *, is_slow: bool = False) -> None:
        super().__init__(why)
        self.is_slow = is_slow


@value
class Sample:
    """One number."""

    name: str
    labels: Mapping[str, str]
    number: float


def fetch(url: str, *, timeout_s: float) -> str:
    """The text at a URL.

    Raises:
        Unanswered: it is not there, or did not come within the deadline, whatever the server sends meanwhile.
    """
    end = time.monotonic() + timeout_s
    try:
        with session() as http, http.get(url, timeout=timeout_s, stream=True, headers=PLAIN) as answer:
            if answer.status_code != requests.codes.ok:
                raise Unanswered(f"HTTP {answer.status_code}")
            return b"".join(_pieces(answer, end, timeout_s)).decode("utf-8", errors="replace")
    except (requests.Timeout, ReadTimeoutError) as error:
        raise _late(timeout_s) from error
    except requests.RequestException as error:
        raise Unanswered(words(error)) from error
    except HTTPError as error:  # urllib3's, in the middle of the text
        raise Unanswered("connection broken off") from error


def _pieces(answer: requests.Response, end: float, timeout_s: float) -> Iterator[bytes]:
    """What there is, as it comes: a server that drips must not keep us for longer than one that is silent."""
    read = 0
    while piece := answer.raw.read1(PIECE, decode_content=True):
        yield piece
        read += len(piece)
        if read > MOST_BYTES:
            raise Unanswered(f"more than {MOST_BYTES / 2**20:g} MiB")
        if time.monotonic() > end:
            raise _late(timeout_s)


def _late(timeout_s: float) -> Unanswered:
    return Unanswered(f"no answer within {timeout_s:g} s", is_slow=True)


def samples(text: str, names: Collection[str]) -> tuple[Sample, ...]:
    """The numbers of these names, all labels; what is no number (NaN) is left out.

    Only the lines with these names are parsed: most of an engine's text are buckets of histograms, and it is read every
    second.

    Raises:
        ValueError: such a line is no Prometheus text.
    """
    wanted = "".join(f"{line}\n" for line in text.splitlines() if _name(line) in names)
    families = text_string_to_metric_families(wanted)
    found = (Sample(name=one.name, labels=one.labels, number=one.value) for each in families for one in each.samples)
    return tuple(one for one in found if math.isfinite(one.number))


def _name(line: str) -> str:
    ends = [at for at in (line.find("{"), line.find(" ")) if at > 0]
    return line[: min(ends)] if ends else line
