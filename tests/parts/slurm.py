"""A Slurm of the tests' own on this machine: one node with fake GPUs, with accounting, and gone with all its traces.

It shares nothing with a Slurm that runs on the machine: its folder, keys, ports, database and cgroup are its own; what
talks to it is told by SLURM_CONF. Run as a program it is the guard: it waits until the tests that started it are gone,
however they ended, and removes the cluster. All of it is found by the name of its folder.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from parts.guard import cgroups, guarded, remove_cgroups, until_the_end
from parts.llama import lasting_ports
from pipeline.machine import process

TOOLS = ("munged", "mariadbd", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd", "sbatch", "sacctmgr", "setsid")
START_S = 120.0
GONE_S = 45.0
FIRST_JOB = 5000

SLURM = """\
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.sock,cred_expire=5
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/cgroup
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=1500
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,sched_min_interval=0
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd}
AccountingStoragePass={root}/munge.sock
AccountingStorageTRES=gres/gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
OverTimeLimit=0
SlurmdTimeout=10
ReturnToService=2
FirstJobId={first_job}
MailProg=/bin/true
NodeName={name} NodeAddr=127.0.0.1 NodeHostname={host} \
CPUs={cores} Sockets=1 CoresPerSocket={cores} ThreadsPerCore=1 RealMemory=8000 Gres=gpu:fake:2
PartitionName=debug Nodes=ALL Default=YES MaxTime=30 PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=30 PriorityTier=10
"""
DBD = """\
AuthType=auth/munge
AuthInfo={root}/munge.sock
DbdAddr=127.0.0.1
DbdHost=localhost
DbdPort={dbd}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=root
StorageLoc=slurm
PidFile={root}/slurmdbd.pid
LogFile={root}/slurmdbd.log
"""
GRES = """\
AutoDetect=off
Name=gpu Type=fake File=/dev/null
Name=gpu Type=fake File=/dev/zero
"""
CGROUP = """\
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
CgroupAutomount=yes
ConstrainRAMSpace=yes
ConstrainSwapSpace=yes
ConstrainCores=yes
"""


@dataclass(frozen=True)
class Cluster:
    """A Slurm, known by its folder."""

    root: Path

    @property
    def conf(self) -> Path:
        """What SLURM_CONF takes."""
        return self.root / "slurm.conf"

    @property
    def node(self) -> str:
        """Its only node; the cgroup on the machine is named after it."""
        return self.root.name

    def ask(self, *argv: str) -> str:
        """What one of Slurm's commands says.

        Raises:
            AssertionError: it failed.
        """
        done = subprocess.run(argv, env=self._env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, (argv, done.stdout, done.stderr, self.logs)
        return done.stdout

    @property
    def jobs(self) -> list[str]:
        """What is in the queue, pending or running."""
        return self.ask("squeue", "--noheader", "--format=%i %T %r").splitlines()

    @property
    def is_idle(self) -> bool:
        """Whether the node can be given a job."""
        return self._state == "idle"

    @property
    def _state(self) -> str:
        return self.ask("sinfo", "--noheader", "--partition=debug", "--format=%t").strip()

    @property
    def logs(self) -> str:
        return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in self._logs())

    def start(self) -> None:
        """Start all of it and wait until it takes jobs."""
        for step in (self._start_munge, self._start_database, self._start_accounting, self._start_controller):
            step()
        self.start_node()

    def start_node(self) -> None:
        """Start the node's daemon."""
        self._daemon("slurmd", "-D", "-f", str(self.conf), "-N", self.node)
        self._await(lambda: self.is_idle, "the node")

    def kill_node(self) -> None:
        """KILL the node's daemon, and what runs there."""
        self._signal(signal.SIGSTOP, "slurmd", "slurmstepd")  # they have nothing to tell any more
        stopping = self._processes("slurmd", "slurmstepd")  # a signal takes its time where the machine is busy
        assert process.wait_until(lambda: not any(map(_runs, stopping)), timeout_s=GONE_S)
        self._empty_cgroups()
        killed = self._processes("slurmd", "slurmstepd")
        self._signal(signal.SIGKILL, "slurmd", "slurmstepd")
        assert process.wait_until(lambda: not any(map(process.is_running, killed)), timeout_s=GONE_S)
        self.ask(
            "scontrol", "update", f"NodeName={self.node}", "State=DOWN", "Reason=killed"
        )  # not after SlurmdTimeout

    @contextmanager
    def unaccounted(self) -> Iterator[None]:
        """Without accounting in here; it hears afterwards of what has happened meanwhile."""
        killed = self._processes("slurmdbd")
        self._signal(signal.SIGKILL, "slurmdbd")
        assert process.wait_until(lambda: not any(map(process.is_running, killed)), timeout_s=GONE_S)
        yield
        self._daemon("slurmdbd", "-D")

    def restore(self) -> None:
        """As at the beginning, whatever a test did to it."""
        self.ask("scancel", "--user=root")
        if not self._processes("slurmd"):
            self._daemon("slurmd", "-D", "-f", str(self.conf), "-N", self.node)
            self._await(lambda: "down" not in self._state, "the node")
        if "down" in self._state:
            self.ask("scontrol", "update", f"NodeName={self.node}", "State=RESUME")

    def remove(self) -> None:
        """End it and undo what it did to the machine."""
        self._signal(signal.SIGTERM, "slurmctld", "slurmd", "slurmdbd")
        process.wait_until(lambda: not self._processes("slurmctld", "slurmdbd"), timeout_s=5)
        self._empty_cgroups()
        self._signal(signal.SIGTERM, "mariadbd", "munged")
        process.wait_until(lambda: not self._processes(), timeout_s=5)
        process.wait_until(self._kill_rest, timeout_s=GONE_S)
        remove_cgroups(cgroups(f"slurm_{self.root.name}"), timeout_s=5)
        shutil.rmtree(self.root)

    def remains(self) -> list[str]:
        """What is left of it on the machine, in words."""
        return [
            *(f"process {one.pid}" for one in self._processes()),
            *(f"cgroup {folder}" for folder in cgroups(f"slurm_{self.root.name}")),
            *([f"folder {self.root}"] if self.root.exists() else []),
        ]

    @property
    def _env(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"] + ":/usr/sbin", "SLURM_CONF": str(self.conf)}

    def _logs(self) -> list[Path]:
        return sorted(self.root.glob("*.log"))

    def _daemon(self, *argv: str) -> None:
        # No child of ours, in a session of its own: a Ctrl-C must reach the tests only, and what a test restarts must
        # not look like a process that the test left behind.
        with (self.root / f"{argv[0]}.out.log").open("ab") as log:
            command = ["setsid", "--fork", *argv]
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._env, check=True)

    def _await(self, check: object, what: str) -> None:
        assert callable(check)

        def holds() -> bool:
            with suppress(AssertionError, OSError):
                return bool(check())
            return False

        assert process.wait_until(holds, timeout_s=START_S, interval_s=0.1), f"{what} did not start: {self.logs}"

    def _start_munge(self) -> None:
        key = self.root / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        own = {"key": "munge.key", "log": "munge.log", "pid": "munge.pid", "seed": "munge.seed"}
        flags = [f"--{name}-file={self.root}/{file}" for name, file in own.items()]
        self._daemon("munged", "--foreground", "--force", f"--socket={self.root}/munge.sock", *flags)
        self._await((self.root / "munge.sock").exists, "munge")

    def _start_database(self) -> None:
        where = ["--no-defaults", "--user=root", f"--datadir={self.root}/db"]
        install = ["mariadb-install-db", *where, "--skip-test-db", "--auth-root-authentication-method=normal"]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        door = ["--bind-address=127.0.0.1", f"--port={self._port('database')}", f"--socket={self.root}/db.sock"]
        small = ["--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900", "--innodb-flush-method=fsync"]
        self._daemon("mariadbd", *where, *door, *small, "--skip-grant-tables", f"--pid-file={self.root}/db.pid")
        self._await((self.root / "db.sock").exists, "the database")

    def _start_accounting(self) -> None:
        self._daemon("slurmdbd", "-D")
        self._await(lambda: self.ask("sacctmgr", "-n", "list", "cluster") is not None, "slurmdbd")
        self.ask("sacctmgr", "-i", "add", "cluster", self.root.name)

    def _start_controller(self) -> None:
        self._daemon("slurmctld", "-D", "-c", "-f", str(self.conf))
        self._await(lambda: "UP" in self.ask("scontrol", "ping"), "slurmctld")

    def _port(self, name: str) -> int:
        return int((self.root / f"{name}.port").read_text())

    def _signal(self, number: signal.Signals, *names: str) -> None:
        for one in self._processes(*names):
            with suppress(psutil.NoSuchProcess):
                one.send_signal(number)

    def _kill_rest(self) -> bool:
        self._empty_cgroups()
        self._signal(signal.SIGKILL)
        return not self._processes()

    def _empty_cgroups(self) -> None:
        for folder in cgroups(f"slurm_{self.root.name}"):
            with suppress(OSError):
                for pid in (folder / "cgroup.procs").read_text().split():
                    with suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)

    def _processes(self, *names: str) -> list[psutil.Process]:
        """Its processes: all have its folder in their command lines or, as a daemon's helper, its configuration."""
        found = []
        for one in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                words = one.cmdline()
                mine = " ".join([*words, one.environ().get("SLURM_CONF", "")])
                name = Path(words[0].split()[0].rstrip(":")).name if words else ""  # `slurmstepd: [5000.0]`
                is_ours = name in DAEMONS and str(self.root) in mine and one.status() != psutil.STATUS_ZOMBIE
                if is_ours and (not names or name in names):
                    found.append(one)
        return found


DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "slurmstepd")


def _runs(one: psutil.Process) -> bool:
    """Neither stopped nor gone."""
    with suppress(psutil.NoSuchProcess):
        return one.status() not in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
    return False


@contextmanager
def running() -> Iterator[Cluster]:
    """A cluster until the end of the scope, or of this process."""
    cluster = _prepared()
    with guarded(__file__, cluster.root):
        cluster.start()
        yield cluster
    assert not cluster.remains()


def _prepared() -> Cluster:
    cluster = Cluster(Path(tempfile.mkdtemp(prefix="stslurm", dir="/tmp")))
    ports = dict(zip(("ctld", "node", "dbd", "database"), lasting_ports(4), strict=True))
    facts = {
        "root": str(cluster.root), "name": cluster.root.name, "host": socket.gethostname().partition(".")[0],
        "first_job": str(FIRST_JOB), "cores": "2", **{name: str(port) for name, port in ports.items()},
    }  # fmt: skip
    for folder in ("state", "spool", "db"):
        (cluster.root / folder).mkdir()
    for name, port in ports.items():
        (cluster.root / f"{name}.port").write_text(str(port))
    for name, text in {"slurm": SLURM, "slurmdbd": DBD, "gres": GRES, "cgroup": CGROUP}.items():
        path = cluster.root / f"{name}.conf"
        path.write_text(text.format(**facts))
        path.chmod(0o600)
    return cluster


if __name__ == "__main__":
    until_the_end()
    Cluster(Path(sys.argv[1])).remove()
