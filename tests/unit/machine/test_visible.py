"""How the runtimes read the variables that hide GPUs."""

import pytest

from pipeline.machine import visible

UUIDS = ("GPU-babababababababa", "GPU-abbaabbaabbaabba", "GPU-babaabbaabbababa", "GPU-abbababababaabba")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("0,1", ("0", "1")),
        ("0, 1", ("0", "1")),
        (" 3 ", ("3",)),
        ("0,1,", ("0", "1")),
        ("0,,1", ("0",)),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("0,-1,1", ("0",)),
        ("00,+1,0", ("0", "1")),
        ("GPU-ab, GPU-cd", ("GPU-ab", "GPU-cd")),
        ("GPU-ab,1", ("GPU-ab",)),
        ("1,GPU-ab", ("1",)),
        ("MIG-1,MIG-GPU-ab/1/0,GPU-cd", ("MIG-1", "MIG-GPU-ab/1/0")),
    ],
)
def test_cuda_reads_up_to_the_first_piece_that_is_no_gpu(text: str, named: tuple[str, ...]) -> None:
    assert visible.cuda(text) == named


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("", ()),
        ("-1", ()),
        ("GPU-XX", ()),
        ("3,GPU-BABABABABABABABA,4", (3, 0)),
        ("1,GPU-ABBAABBAABBAABBA,GPU-XX", (1,)),
        ("3,GPU-BABAABBA,GPU-XX", (3, 2)),
        ("GPU-BABA,1", ()),
        ("2, 0", (2, 0)),
        ("GPU-,1", ()),
    ],
    ids=["none", "-1", "no uuid", "AMD's B", "AMD's C", "AMD's D", "ambiguous", "blanks", "no beginning"],
)
def test_rocr_reads_numbers_and_uuids_as_its_examples_say(text: str, left: tuple[int, ...]) -> None:
    assert visible.rocr(text, UUIDS) == left


@pytest.mark.parametrize(
    ("env", "read"),
    [
        ({}, None),
        ({"HIP_VISIBLE_DEVICES": "1"}, ("HIP_VISIBLE_DEVICES", (1,))),
        ({"CUDA_VISIBLE_DEVICES": "1, 2"}, ("CUDA_VISIBLE_DEVICES", (1, 2))),
        ({"HIP_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "2"}, ("HIP_VISIBLE_DEVICES", (1,))),
        ({"HIP_VISIBLE_DEVICES": "", "CUDA_VISIBLE_DEVICES": "2"}, ("CUDA_VISIBLE_DEVICES", (2,))),
        ({"CUDA_VISIBLE_DEVICES": ""}, ("CUDA_VISIBLE_DEVICES", ())),
    ],
)
def test_hips_own_variable_goes_first(env: dict[str, str], read: object) -> None:
    assert visible.hip(env) == read


def test_an_id_is_the_same_however_it_is_written() -> None:
    assert [visible.plain(one) for one in (" 07", "+7", "7 ", " GPU-ab ")] == ["7", "7", "7", "GPU-ab"]
