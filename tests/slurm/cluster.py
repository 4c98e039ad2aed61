"""A real SLURM of two nodes on this machine, private to a folder: munge, a controller, two node daemons.

Nothing is written outside the folder, nothing is registered with the system, and everything is stopped by pid. Node
`n1` offers two GPUs (character devices that only have to exist), `n2` none; the partitions are `cpu` on both nodes and
`gpu` on the first. Accounting is off, as at a site without a database.
"""

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "sinfo", "scontrol", "scancel")
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
_SYSTEM = "/usr/sbin:/sbin"  # where Debian keeps daemons; not on every user's path

_CONFIGURATION = """\
ClusterName=tremor
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=cred_expire=5,socket={root}/munge/socket
CredType=cred/munge
StateSaveLocation={root}/state
SlurmctldPidFile={root}/slurmctld.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdPidFile={root}/slurmd.%n.pid
SlurmdLogFile={root}/log/slurmd.%n.log
SlurmdSpoolDir={root}/spool/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=0,batch_sched_delay=0,sched_interval=2
GresTypes=gpu
MinJobAge=600
KillWait=2
SlurmdTimeout=10
SlurmctldTimeout=30
InactiveLimit=0
UnkillableStepTimeout=10
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first_port} CPUs=4 RealMemory=12000 Gres=gpu:2 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second_port} CPUs=4 RealMemory=12000 State=UNKNOWN
PartitionName=cpu Nodes=n1,n2 Default=YES MaxTime=60 DefMemPerCPU=100 LLN=YES State=UP
PartitionName=gpu Nodes=n1 MaxTime=60 DefMemPerCPU=100 State=UP
"""


def missing() -> list[str]:
    """Programs of SLURM that this machine lacks."""
    path = f"{os.environ.get('PATH', '')}:{_SYSTEM}"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


@dataclass
class Cluster:
    """The cluster below `root`; `start` before use, `stop` after, also after a failure.

    Attributes:
        root: A folder whose parents are not writable for others, except sticky ones (munge refuses to start else).
    """

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables for every client of this cluster; its own `srun` comes first in the path."""
        path = f"{self.root}/bin:{os.environ.get('PATH', '')}:{_SYSTEM}"
        return {**os.environ, "SLURM_CONF": str(self.root / "slurm.conf"), "PATH": path}

    def command(self, *arguments: str, timeout: float = 20, check: bool = True) -> str:
        """What a client of SLURM prints; bounded, for clients wait long for a controller that is gone."""
        done = subprocess.run(
            arguments, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{arguments} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self) -> None:
        """Write the configuration and start the daemons; returns when both nodes are idle."""
        for name in ("munge", "state", "log", "spool/n1", "spool/n2", "bin", "dev"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for folder in (self.root, self.root / "munge"):
            folder.chmod(0o711)  # munge wants its socket reachable for all
        key = self.root / "munge/key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        ports = _free_ports(3)
        fields = {"controller_port": ports[0], "first_port": ports[1], "second_port": ports[2]}
        host, user = socket.gethostname().partition(".")[0], getpass.getuser()
        (self.root / "slurm.conf").write_text(_CONFIGURATION.format(root=self.root, host=host, user=user, **fields))
        (self.root / "gres.conf").write_text(f"AutoDetect=off\nNodeName=n1 Name=gpu File={self._devices()}\n")
        (self.root / "cgroup.conf").write_text("# none\n")
        # The plugin's jobstep deletes every SLURM_* variable before it calls srun; without the configuration's place
        # srun would look in /etc.
        wrapper = self.root / "bin/srun"
        wrapper.write_text(f'#!/bin/sh\nexport SLURM_CONF={self.root}/slurm.conf\nexec {_real("srun")} "$@"\n')
        wrapper.chmod(0o755)
        munge = ["socket", "pid-file", "log-file", "seed-file"]
        self.command(
            "munged", f"--key-file={key}", *(f"--{n}={self.root}/munge/{n.partition('-')[0]}" for n in munge),
            "--num-threads=1",
        )  # fmt: skip
        self.start_controller()
        for node in ("n1", "n2"):
            self.command("slurmd", "-N", node)
        wait_for(lambda: set(self.states().values()) == {"idle"}, 30, "both nodes to be idle")

    def _devices(self) -> str:
        """Character devices that stand for GPUs: made here by root, borrowed by others."""
        if os.getuid():
            return "/dev/null,/dev/zero"
        for index in (0, 1):
            with contextlib.suppress(FileExistsError):
                os.mknod(self.root / f"dev/nvidia{index}", 0o020666, os.makedev(1, 3))
        return f"{self.root}/dev/nvidia[0-1]"

    def start_controller(self) -> None:
        """Start slurmctld; it finds its jobs again in its state folder."""
        self.command("slurmctld")
        wait_for(lambda: "UP" in self.command("scontrol", "ping", timeout=5, check=False), 20, "slurmctld to answer")

    def wait_for_saved_state(self) -> None:
        """Wait until slurmctld has written down its jobs as they are now; it does so every five seconds at most."""
        now = time.time()
        saved = self.root / "state/job_state"
        wait_for(lambda: saved.exists() and saved.stat().st_mtime > now, 20, "slurmctld to save its state")

    def kill_controller(self) -> None:
        """Kill slurmctld without a word; what it had not saved is lost."""
        pid = _pid(self.root / "slurmctld.pid")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not _alive(pid), 10, "slurmctld to end")

    def states(self) -> dict[str, str]:
        """State of each node, in SLURM's words."""
        lines = self.command("sinfo", "-h", "-N", "-p", "cpu", "-o", "%N %T", timeout=5, check=False).split("\n")
        return dict(line.split() for line in lines if line.strip())

    def jobs(self, *, running: bool = False) -> list[dict[str, str]]:
        """The cluster's jobs so far, ended ones too: id, name, state, partition, node, what they asked for per job."""
        states = ["--states=running"] if running else ["--states=all"]
        fields = ("JobID", "State", "Partition", "tres-per-job", "NodeList", "Comment")
        form = ",".join(f"{name}:200" for name in fields)
        lines = self.command("squeue", "-h", *states, "-O", form).splitlines()
        cut = [[line[i * 200 : (i + 1) * 200].strip() for i in range(len(fields))] for line in lines if line.strip()]
        return [dict(zip(("id", "state", "partition", "tres", "node", "comment"), row, strict=True)) for row in cut]

    def stop(self) -> None:
        """End everything that was started, by pid, and what its jobs left behind."""
        if (self.root / "slurmctld.pid").exists():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.command("scancel", "-u", getpass.getuser(), timeout=5, check=False)
        # Node daemons and controller first, munge last: they speak through it.
        files = [*self.root.glob("slurmctld.pid"), *self.root.glob("slurmd.*.pid")]
        for group in (files, [self.root / "munge/pid"]):
            pids = [pid for pid in map(_pid, group) if pid is not None]
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 10
            while any(map(_alive, pids)) and time.monotonic() < deadline:
                time.sleep(0.1)
            for pid in filter(_alive, pids):
                os.kill(pid, signal.SIGKILL)
        for pid in self._orphans():
            os.kill(pid, signal.SIGKILL)

    def _orphans(self) -> Iterator[int]:
        """Processes of this cluster's jobs that are still there: a node set down can leave its job's Snakemake."""
        mark = f"SLURM_CONF={self.root}/slurm.conf".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if int(folder.name) != os.getpid() and mark in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Ask until it is true, at most so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.2)


def _real(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SYSTEM}")
    assert found is not None
    return found


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _pid(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
