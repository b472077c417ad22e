"""Which AMD GPUs trials may take: as HIP numbers them, and by which name each is locked. Not run on an AMD GPU.

The kernel lists them (Documentation/ABI of amdkfd: /sys/class/kfd/kfd/topology/nodes/N/properties; `unique_id` is the
UUID's number) in the order in which ROCR-Runtime counts them. ROCR_VISIBLE_DEVICES comes first; HIP counts what it
leaves.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.core.errors import ConfigError
from pipeline.core.values import value
from pipeline.machine import visible

NODES = Path("/sys/class/kfd/kfd/topology/nodes")


@value
class AmdGpu:
    """One GPU. `id`: as HIP_VISIBLE_DEVICES takes it here; `key`: the same for every way to name it, if one can tell.

    `place`: as HIP takes it where ROCR_VISIBLE_DEVICES is not set, as in a container.
    """

    id: str
    key: str
    place: str


def machine() -> tuple[str, ...]:
    """The key of each GPU in ROCR's order: its UUID, else its place on the bus; none: nobody tells."""
    with suppress(OSError):
        nodes = sorted((node for node in NODES.iterdir() if node.name.isdigit()), key=lambda node: int(node.name))
        return tuple(key for node in nodes if (key := _key(node)))
    return ()


def allowed(ids: Sequence[str], count: int) -> tuple[AmdGpu, ...]:
    """Those that trials may take: with these ids, else those that the variables show, else all; else the first `count`.

    Raises:
        ConfigError: an id is of no GPU, or of a hidden one. What a batch system has lent us is another set in each
            job: there, those of the ids count that it has lent.
    """
    left, hip = _left(), visible.hip(os.environ)
    if left is None and hip is None:
        believed = dict.fromkeys(map(visible.plain, ids or map(str, range(count))))
        return tuple(AmdGpu(id=one, key=one, place=one) for one in believed)
    each = left if left is not None else {number: (str(number), str(number)) for number in (hip[1] if hip else ())}
    shown = tuple(AmdGpu(id=str(n), key=each[n][0], place=each[n][1]) for n in _shown(each, hip))
    if not ids:
        return shown
    is_lent = "SLURM_JOB_ID" in os.environ and (visible.ROCR in os.environ or hip is not None)
    bad = [one for one in ids if not any(_is(one, gpu) for gpu in shown)]
    if bad and not is_lent:
        raise _refused(ids, bad, shown, hip)
    return tuple(dict.fromkeys(gpu for one in ids for gpu in shown if _is(one, gpu)))


def positions(count: int) -> tuple[int, ...]:
    """Which of the machine's `count` GPUs the variables show, counted as ROCR counts them."""
    uuids = machine()
    known = uuids if len(uuids) == count else ("",) * count
    left = visible.rocr(os.environ[visible.ROCR], known) if visible.ROCR in os.environ else tuple(range(count))
    return tuple(left[number] for number in _shown(dict.fromkeys(range(len(left))), visible.hip(os.environ)))


def _left() -> dict[int, tuple[str, str]] | None:
    """Key and place of what ROCR_VISIBLE_DEVICES leaves, by HIP's number; None where nobody can tell what is there."""
    there, text = machine(), os.environ.get(visible.ROCR)
    if there:
        places = tuple(range(len(there))) if text is None else visible.rocr(text, there)
        return {number: (there[place], str(place)) for number, place in enumerate(places)}
    if text is None:
        return None
    pieces = dict.fromkeys(visible.plain(piece) for piece in text.split(","))
    named = [piece for piece in pieces if piece.isdigit() or piece.startswith("GPU-")]
    return {number: (piece, piece) for number, piece in enumerate(named)}


def _shown(keys: Mapping[int, object], hip: tuple[str, tuple[int, ...]] | None) -> tuple[int, ...]:
    if hip is None:
        return tuple(keys)
    end = next((place for place, number in enumerate(hip[1]) if number not in keys), len(hip[1]))
    return hip[1][:end]


def _is(wanted: str, gpu: AmdGpu) -> bool:
    return visible.plain(wanted) == gpu.id or visible.is_start(wanted.strip(), gpu.key)


def _refused(
    ids: Sequence[str], bad: Sequence[str], shown: Sequence[AmdGpu], hip: tuple[str, tuple[int, ...]] | None
) -> ConfigError:
    names = [name for name in (visible.ROCR, hip[0] if hip else "") if name in os.environ]
    told = f"hardware.gpu_ids=[{','.join(ids)}]"
    there = ", ".join(f"{gpu.id} ({gpu.key})" for gpu in shown) or "none"
    if not names:
        return ConfigError(f"{told}: expected GPUs of this machine, which has {there}. Name some of them.")
    by = " and ".join(f"{name}={os.environ[name]}" for name in names)
    return ConfigError(
        f"{told}: {by} hides GPU {', '.join(bad)}. Name GPUs that it shows, as HIP numbers them behind it: {there}. Or "
        "change it: it limits trials too."
    )


def _key(node: Path) -> str:
    """Empty for a CPU, or a GPU that we may not use: the kernel then gives no properties."""
    try:
        lines = (node / "properties").read_text("ascii").splitlines()
    except (OSError, ValueError):
        return ""
    told = {name: int(number) for name, _, number in (line.partition(" ") for line in lines) if number.isdigit()}
    if not told.get("simd_count"):
        return ""
    unique = told.get("unique_id", 0)
    return f"GPU-{unique:016x}" if unique else f"GPU-at-{told.get('domain', 0):04x}-{told.get('location_id', 0):x}"
