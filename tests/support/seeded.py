"""Faults of teardown code, as patches: what the matrix is there to find, and so what its selection must find, too."""

from dataclasses import dataclass
from pathlib import Path

EVERYWHERE = ("local", "docker", "ome")


@dataclass(frozen=True)
class Fault:
    """One change of one file that a maintainer could make by mistake. `old` is in the file exactly once."""

    name: str
    file: str
    old: str
    new: str
    likely: str  # a pattern of the node ids that should find it: these are run first
    backends: tuple[str, ...] = EVERYWHERE  # that the changed code is run with

    def apply(self, root: Path) -> None:
        """Change the file below that folder.

        Raises:
            ValueError: the code has moved on: the fault has to follow it.
        """
        path = root / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.file} has {self.old!r} {text.count(self.old)} times, not once")
        path.write_text(text.replace(self.old, self.new))


LEASE, KEEPER, PROCESS = "pipeline/backends/lease.py", "pipeline/backends/keeper.py", "pipeline/machine/process.py"
RUN, STORY = "pipeline/trial/run.py", "pipeline/trial/story.py"
DOCKER, IN_CLUSTER = "pipeline/backends/container_removal.py", "pipeline/backends/kube/removal.py"
FAULTS = (
    Fault(
        "the lease stays registered",
        LEASE,
        "registered(lease.label).unlink(missing_ok=True)",
        "pass",
        likely=r"hang_in\[local-(health|warmup)",
    ),
    Fault(
        "a deleted run directory stops the release",
        LEASE,
        "if lease.run_dir.is_dir():",
        "if True:",
        likely="folder_that_vanished",
    ),
    Fault(
        "the keeper ignores the end of the pipe",
        KEEPER,
        "_word(owned) == DONE:",
        '_word(owned) in {DONE, b""}:',
        likely=r"kill_in\[local-(bench|health)",
    ),
    Fault(
        "the keeper calls itself the trial",
        KEEPER,
        'by="keeper"',
        'by="trial"',
        likely=r"kill_in\[local-(bench|health)",
    ),
    Fault(
        "the keeper is sent home from a failed teardown",
        KEEPER,
        "if is_clean and pipe is",
        "if pipe is",
        likely=r"hang_in\[local-teardown",
    ),
    Fault(
        "the keeper is not waited for",
        KEEPER,
        "keeper.wait(timeout=owned.stop_grace_s + PATIENCE_S + 5)",
        "pass",
        likely=r"hang_in\[local-teardown",
    ),
    Fault(
        "the keeper is in our session",
        PROCESS,
        "start_new_session=True, bufsize=0",
        "bufsize=0",
        likely=r"kill_in\[.*our-group",
    ),
    Fault(
        "the keeper does not hold the slots",
        RUN,
        "keeper.start(owned, locks)",
        "keeper.start(owned)",
        likely=r"given_on.*\[local",
    ),
    Fault(
        "no KILL after TERM",
        PROCESS,
        "_each(rest, psutil.Process.kill)",
        "pass",
        likely="ignore_term",
        backends=("local",),
    ),
    Fault(
        "only exceptions lead to teardown, no signals",
        RUN,
        "seen = _tear_down(tenant.story, owned)",
        'seen = _tear_down(tenant.story, owned) if isinstance(__import__("sys").exception(), Exception | None) else '
        'Teardown(by="trial", seconds=0, remaining=("all",), error=None)',
        likely=r"signal_in\[local-(health|deploy)",
    ),
    Fault(
        "signals are not held while the lease is written",
        RUN,
        'story.step("lease", timeout_s=FILES_TIMEOUT_S, is_held=True)',
        'story.step("lease", timeout_s=FILES_TIMEOUT_S)',
        likely=r"before_there_is_a_keeper_waits.*local",
    ),
    Fault(
        "signals are not held during teardown",
        RUN,
        'story.step("teardown", timeout_s=timeout_s, is_held=True)',
        'story.step("teardown", timeout_s=timeout_s)',
        likely=r"break_off\[local-(teardown|torn_down)",
    ),
    Fault(
        "signals are not held while the record is written",
        STORY,
        'story.step("record", timeout_s=FILES_TIMEOUT_S, is_held=True)',
        'story.step("record", timeout_s=FILES_TIMEOUT_S)',
        likely=r"break_off\[local-r",
    ),
    Fault(
        "teardown has no deadline",
        RUN,
        'story.step("teardown", timeout_s=timeout_s, is_held=True)',
        'story.step("teardown", is_held=True)',
        likely=r"hang_in\[.*teardown",
    ),
    Fault(
        "the tracker has no deadline",
        RUN,
        'story.step("tracker", timeout_s=limit_s, is_shown=is_shown)',
        'story.step("tracker", is_shown=is_shown)',
        likely=r"hang_in\[.*tracker",
    ),
    Fault(
        "no record after a failed teardown",
        STORY,
        "if not story.has_folder:",
        "if not story.has_folder or (story.teardown and not story.teardown.is_clean):",
        likely=r"hang_in\[local-teardown",
    ),
    Fault(
        "local: only the process group is stopped",
        "pipeline/backends/local.py",
        "remaining = process.stop_labelled(owned.label, grace_s=owned.stop_grace_s)",
        "remaining = (owned.pid and process.kill_group(owned.pid)) or ()",
        likely="leave_session",
        backends=("local",),
    ),
    Fault(
        "local: nobody adopts an engine's orphans",
        "pipeline/machine/foster.py",
        "prctl(PR_SET_CHILD_SUBREAPER, 1,",
        "prctl(PR_SET_CHILD_SUBREAPER, 0,",
        likely=r"orphan",
        backends=("local",),
    ),
    Fault(
        "local: the temporary folder stays",
        "pipeline/backends/teardown.py",
        "swept = _tried(lambda: belongings.remove(owned), errors) or belongings.Swept()",
        "swept = belongings.Swept()",
        likely=r"hang_in\[local-(health|warmup)",
        backends=("local",),
    ),
    Fault(
        "docker: only containers that run are removed",
        DOCKER,
        "all=True, filters",
        "filters",
        likely="death_of_the_engine",
        backends=("docker",),
    ),
    Fault(
        "docker: what runs beside the container stays",
        "pipeline/backends/docker.py",
        "(*process.stop_labelled(owned.label, grace_s=BESIDE_S), *container_removal.remove(owned))",
        "container_removal.remove(owned)",
        likely=r"kill_in\[docker-bench",
        backends=("docker",),
    ),
    Fault(
        "ome: the owner Job stays",
        IN_CLUSTER,
        '_delete(api, found, "Job", "Pod")',
        "pass",
        likely=r"_in\[ome-(deploy|health|bench)",
        backends=("ome",),
    ),
    Fault(
        "ome: what runs beside the engine stays",
        IN_CLUSTER,
        "left = process.stop_labelled(owned.label, grace_s=BESIDE_S)",
        "left: tuple[str, ...] = ()",
        likely=r"kill_in\[ome-(bench|health)",
        backends=("ome",),
    ),
)
