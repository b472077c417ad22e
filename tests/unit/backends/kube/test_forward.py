"""Frames of a websocket (RFC 6455, 5.2), as a server sends them."""

import pytest

from pipeline.backends.kube.forward import frames


def framed(payload: bytes, kind: int = 2) -> bytes:
    length = len(payload)
    if length < 126:
        return bytes([128 | kind, length]) + payload
    if length < 65536:
        return bytes([128 | kind, 126]) + length.to_bytes(2) + payload
    return bytes([128 | kind, 127]) + length.to_bytes(8) + payload


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 100_000], ids=lambda size: f"{size}-bytes")
def test_a_frame_of_any_length_is_whole(size: int) -> None:
    received = bytearray(framed(b"x" * size))
    assert list(frames(received)) == [(2, b"x" * size)]
    assert received == b""


def test_frames_that_come_in_pieces_are_put_together() -> None:
    wire, received, found = framed(b"one") + framed(b"y" * 300, kind=9) + framed(b"z" * 70_000), bytearray(), []
    for place in range(0, len(wire), 7):
        received += wire[place : place + 7]
        found += list(frames(received))
    assert found == [(2, b"one"), (9, b"y" * 300), (2, b"z" * 70_000)]


@pytest.mark.parametrize("cut", [1, 2, 3], ids=lambda cut: f"{cut}-bytes")
def test_what_is_not_whole_stays(cut: int) -> None:
    received = bytearray(framed(b"x" * 200)[:cut])
    assert list(frames(received)) == []
    assert len(received) == cut
