"""A Slurm of two nodes on loopback, without systemd, all of it in one folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=5
SchedulerParameters=bf_interval=2,sched_interval=5
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 State=UNKNOWN
PartitionName=low Nodes=n[1-2] Default=YES MaxTime=INFINITE PriorityTier=1 State=UP
PartitionName=closed Nodes=n[1-2] AllowGroups=root MaxTime=INFINITE State=UP
PartitionName=high Nodes=n[1-2] MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF State=UP
"""


def what_is_missing() -> str:
    """Why there can be no such Slurm on this machine, or ""."""
    missing = [name for name in NEEDED if shutil.which(name, path=_path()) is None]
    if missing:
        return f"needs {', '.join(missing)} (Debian's packages slurm-wlm and munge)"
    return "" if os.geteuid() == 0 else "needs root, to start Slurm's daemons"


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class Site:
    """The daemons, from `start` to `stop`; each is ended by its id."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gs"))  # short: sockets lie in it
        self.folder.chmod(0o755)  # for users, as a site's are
        self.environment = {"SLURM_CONF": f"{self.folder}/slurm.conf", "PATH": _path()}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        for name in ("state", "spool.n1", "spool.n2"):
            (self.folder / name).mkdir()
        config = CONFIG.format(host=socket.gethostname(), folder=self.folder, ports=free_ports(3))
        (self.folder / "slurm.conf").write_text(config)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        own = {name: self.folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
        self._daemon(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={own['socket']}",
            f"--pid-file={own['pid']}", f"--log-file={own['log']}", f"--seed-file={own['seed']}",
        )  # fmt: skip
        self._await(own["socket"].exists, "munged")
        file = self.environment["SLURM_CONF"]
        self._daemon("slurmctld", "-D", "-f", file)
        for node in ("n1", "n2"):
            self._daemon("slurmd", "-D", "-f", file, "-N", node)
        self._await(self._idle, "two idle nodes")

    def say(self, *words: str, input: str | None = None) -> str:
        """What a command of Slurm's prints."""
        return subprocess.run(
            words, env={**os.environ, **self.environment}, input=input, capture_output=True,
            text=True, timeout=30, check=True,
        ).stdout  # fmt: skip

    def stop(self) -> None:
        """End every job, then the daemons, the last first."""
        try:
            self.say("scancel", "--user=root")
            self._await(self._empty, "an empty queue", seconds=40)
        except (subprocess.SubprocessError, AssertionError):
            pass
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def logs(self) -> str:
        """The ends of the daemons' logs, for messages."""
        return "".join(
            f"\n--- {path.name}\n{path.read_text(errors='replace')[-3000:]}"
            for path in sorted(self.folder.glob("*.log"))
        )

    def _daemon(self, *words: str) -> None:
        output = (self.folder / f"{words[0]}.{len(self._daemons)}.out.log").open("wb")
        self._daemons.append(
            subprocess.Popen(
                words,
                env={**os.environ, **self.environment},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        )

    def _idle(self) -> bool:
        try:
            return self.say("sinfo", "-h", "-p", "low", "-o", "%T %D").split() == ["idle", "2"]
        except subprocess.SubprocessError:
            return False

    def _empty(self) -> bool:
        return not self.say("squeue", "-h").strip()

    def _await(self, condition: object, what: str, *, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():  # type: ignore[operator]
                return
            time.sleep(0.2)
        raise AssertionError(f"no {what} within {seconds:g} s{self.logs()}")


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    doors = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(door.getsockname()[1]) for door in doors]
    for door in doors:
        door.close()
    return ports
