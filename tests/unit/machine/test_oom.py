"""The kernel's count of out-of-memory kills in our cgroup, found in a played /proc and /sys."""

from pathlib import Path

import pytest

from pipeline.machine import oom

V1_MOUNT = "36 35 0:30 {root} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"
V2_MOUNT = "42 35 0:33 {root} {point} rw,relatime - cgroup2 cgroup2 rw,nsdelegate"
V1_TEXT = "oom_kill_disable 0\nunder_oom 0\noom_kill {count}\n"
V2_TEXT = "low 0\nhigh 0\nmax 12\noom 3\noom_kill {count}\noom_group_kill 0\n"


def played(root: Path, own: str, mounts: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": own, "proc/self/mountinfo": mounts, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("own", "mounts", "file", "text"),
    [
        (
            "0::/user.slice/session-1.scope\n",
            V2_MOUNT.format(root="/", point="/sys/fs/cgroup"),
            "sys/fs/cgroup/user.slice/session-1.scope/memory.events",
            V2_TEXT,
        ),
        (
            "0::/\n",
            V2_MOUNT.format(root="/", point="/sys/fs/cgroup"),
            "sys/fs/cgroup/memory.events",
            V2_TEXT,
        ),
        (
            "7:memory:/slurm/job_3\n5:cpu,cpuacct:/\n0::/\n",
            V1_MOUNT.format(root="/"),
            "sys/fs/cgroup/memory/slurm/job_3/memory.oom_control",
            V1_TEXT,
        ),
        (
            "7:hugetlb,memory:/docker/abc\n",
            V1_MOUNT.format(root="/docker/abc"),
            "sys/fs/cgroup/memory/memory.oom_control",
            V1_TEXT,
        ),
    ],
    ids=["v2", "v2-in-a-namespace", "v1", "v1-in-a-container"],
)
def test_the_count_is_that_of_our_own_cgroup(tmp_path: Path, own: str, mounts: str, file: str, text: str) -> None:
    root = played(tmp_path, own, mounts, {file: text.format(count=2)})
    assert oom.kills(root) == 2


def test_what_was_killed_in_cgroups_below_ours_does_not_count(tmp_path: Path) -> None:
    mounts, below = V2_MOUNT.format(root="/", point="/sys/fs/cgroup"), V2_TEXT.format(count=7)
    files = {"sys/fs/cgroup/a/memory.events.local": V2_TEXT.format(count=1), "sys/fs/cgroup/a/memory.events": below}
    assert oom.kills(played(tmp_path, "0::/a\n", mounts, files)) == 1


def test_the_first_version_wins_where_it_has_the_memory_controller(tmp_path: Path) -> None:
    """Systemd's hybrid layout: the second version is mounted, too, without controllers."""
    mounts = "\n".join([V2_MOUNT.format(root="/", point="/sys/fs/cgroup/unified"), V1_MOUNT.format(root="/")])
    files = {
        "sys/fs/cgroup/memory/a/memory.oom_control": V1_TEXT.format(count=1),
        "sys/fs/cgroup/unified/a/memory.events": V2_TEXT.format(count=9),
    }
    assert oom.kills(played(tmp_path, "4:memory:/a\n0::/a\n", mounts, files)) == 1


@pytest.mark.parametrize(
    ("own", "text"),
    [("0::/a\n", "low 0\n"), ("0::/b\n", V2_TEXT.format(count=1)), ("", ""), ("nonsense\n", "")],
    ids=["no-such-line", "no-such-cgroup", "empty", "nonsense"],
)
def test_nobody_tells(tmp_path: Path, own: str, text: str) -> None:
    mounts = V2_MOUNT.format(root="/", point="/sys/fs/cgroup")
    assert oom.kills(played(tmp_path, own, mounts, {"sys/fs/cgroup/a/memory.events": text})) is None
    assert oom.kills(tmp_path / "nowhere") is None


def test_only_what_came_since_counts(tmp_path: Path) -> None:
    mounts, file = V2_MOUNT.format(root="/", point="/sys/fs/cgroup"), "sys/fs/cgroup/a/memory.events"
    root = played(tmp_path, "0::/a\n", mounts, {file: V2_TEXT.format(count=3)})
    oom.watch("one", root)
    assert oom.since("one") == 0
    (root / file).write_text(V2_TEXT.format(count=5))
    assert oom.since("one") == 2
    assert oom.since("another") is None
    (root / file).unlink()
    assert oom.since("one") is None


def test_what_cannot_be_counted_before_is_not_counted_after(tmp_path: Path) -> None:
    oom.watch("two", tmp_path)
    mounts, file = V2_MOUNT.format(root="/", point="/sys/fs/cgroup"), "sys/fs/cgroup/a/memory.events"
    played(tmp_path, "0::/a\n", mounts, {file: V2_TEXT.format(count=3)})
    assert oom.since("two") is None


MOUNTS = V2_MOUNT.format(root="/", point="/sys/fs/cgroup")
HERE, THERE = "sys/fs/cgroup/a/memory.events", "sys/fs/cgroup/b/memory.events"


def moved(tmp_path: Path, label: str, *, who: str) -> Path:
    """An engine that was started in /a, and lives in /b since; nobody was killed in between."""
    files = {HERE: V2_TEXT.format(count=3), THERE: V2_TEXT.format(count=8), "proc/42/cgroup": "0::/a\n"}
    root = played(tmp_path, "0::/a\n", MOUNTS, files)
    oom.watch(label, root)
    oom.follow(label, 42, root)
    (root / "proc" / who / "cgroup").write_text("0::/b\n")
    oom.follow(label, 42, root)
    return root


@pytest.mark.parametrize("who", ["42", "self"])
def test_a_move_to_another_cgroup_is_no_kill(tmp_path: Path, who: str) -> None:
    moved(tmp_path, "moved", who=who)
    assert oom.since("moved") == 0


@pytest.mark.parametrize(("file", "count"), [(HERE, 4), (THERE, 9)], ids=["before the move", "after it"])
def test_a_kill_counts_wherever_the_engine_lived(tmp_path: Path, file: str, count: int) -> None:
    root = moved(tmp_path, "killed", who="42")
    (root / file).write_text(V2_TEXT.format(count=count))
    assert oom.since("killed") == 1


def test_what_the_engine_left_behind_counts_after_we_moved(tmp_path: Path) -> None:
    root = moved(tmp_path, "ours", who="self")
    (root / HERE).write_text(V2_TEXT.format(count=4))
    (root / THERE).write_text(V2_TEXT.format(count=99))
    assert oom.since("ours") == 1


def test_a_cgroup_that_is_gone_with_its_engine_leaves_it_open_who_killed_it(tmp_path: Path) -> None:
    root = moved(tmp_path, "gone", who="42")
    (root / THERE).unlink()
    assert oom.since("gone") is None
    (root / HERE).write_text(V2_TEXT.format(count=5))
    assert oom.since("gone") == 2


def test_a_cgroup_that_never_told_leaves_it_open_too(tmp_path: Path) -> None:
    root = moved(tmp_path, "hidden", who="42")
    (root / "proc/42/cgroup").write_text("0::/../elsewhere\n")
    oom.follow("hidden", 42, root)
    assert oom.since("hidden") is None


def test_a_process_that_is_gone_lives_nowhere_new(tmp_path: Path) -> None:
    root = moved(tmp_path, "ended", who="42")
    (root / "proc/42/cgroup").unlink()
    oom.follow("ended", 42, root)
    oom.follow("never watched", 42, root)
    assert oom.since("ended") == 0
    assert oom.since("never watched") is None
