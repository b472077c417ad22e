"""Reads the variables that hide GPUs, as the runtimes read them. Pure.

A list ends at its first piece that means no GPU: `0,-1,1` shows GPU 0, and so does `0,,1`. Sources: CUDA's programming
guide, CUDA_VISIBLE_DEVICES, and torch/cuda/__init__.py `_parse_visible_devices`, which reads it as the driver does;
AMD's page on GPU isolation and ROCR-Runtime's amd_filter_device.h.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

CUDA, HIP, ROCR = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"
SLICE = "MIG-"  # begins the id of a part of a GPU, which NVML lists below its GPU only
_UUID = "GPU-"
_NUMBER = re.compile(r"\+?\d+")  # CUDA reads `1` in `1x`, as strtoul does


def cuda(text: str) -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES names: numbers without ornament, or UUIDs, or ids of slices; of one sort in a list."""
    pieces = [piece.strip() for piece in text.split(",")]
    sort = next((sort for sort in (_UUID, SLICE) if pieces[0].startswith(sort)), "")
    return tuple(dict.fromkeys(_words(pieces, sort) if sort else map(str, numbers(text))))


def numbers(text: str) -> tuple[int, ...]:
    """The numbers at the beginning of a list, each once."""
    found: dict[int, None] = {}
    for piece in text.split(","):
        number = _NUMBER.match(piece.strip())
        if number is None:
            break
        found[int(number[0])] = None
    return tuple(found)


def plain(wanted: str) -> str:
    """An id as locks name it: ` 07` and `+7` are GPU 7."""
    piece = wanted.strip()
    return str(int(piece)) if re.fullmatch(r"\+?\d+", piece) else piece


def rocr(text: str, uuids: Sequence[str]) -> tuple[int, ...]:
    """Which of the machine's GPUs ROCR_VISIBLE_DEVICES leaves, and in which order: by numbers and UUIDs, mixed."""
    found: list[int] = []
    for piece in text.split(","):
        place = _place(piece.strip(), uuids)
        if place is None or place in found:  # ROCR ends at what it has had, too
            break
        found.append(place)
    return tuple(found)


def hip(env: Mapping[str, str]) -> tuple[str, tuple[int, ...]] | None:
    """The variable that HIP obeys, and the numbers in it, which count what ROCR left; None: it is given none.

    HIP_VISIBLE_DEVICES goes before CUDA_VISIBLE_DEVICES. One that is empty hides all, unless the other one says more.
    """
    given = [name for name in (HIP, CUDA) if name in env]
    name = next((name for name in given if env[name].strip()), given[0] if given else None)
    return None if name is None else (name, numbers(env[name]))


def _words(pieces: Sequence[str], sort: str) -> Iterator[str]:
    for piece in pieces:
        if not piece.startswith(sort):
            return
        yield piece


def _place(piece: str, uuids: Sequence[str]) -> int | None:
    if re.fullmatch(r"\d+", piece):
        return int(piece) if int(piece) < len(uuids) else None
    found = [place for place, uuid in enumerate(uuids) if is_start(piece, uuid)]
    return found[0] if len(found) == 1 else None


def is_start(wanted: str, uuid: str) -> bool:
    """Whether it is a UUID or its beginning."""
    return wanted.startswith(_UUID) and len(wanted) > len(_UUID) and uuid.lower().startswith(wanted.lower())
