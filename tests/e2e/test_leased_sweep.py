import json
import signal

import pytest

from hydra_plugins.leased import LeasedLauncher, _ended
from tests.forked import command

APP = """
import json, os, signal, time
from pathlib import Path
import hydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    devices = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
    print("computing", flush=True)
    if cfg.x == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    began = time.monotonic()
    time.sleep(0.5)
    lease = {"devices": devices, "began": began, "ended": time.monotonic()}
    folder = Path(HydraConfig.get().runtime.output_dir)
    (folder / "lease.json").write_text(json.dumps(lease))
    return float(cfg.x)

main()
"""


def test_jobs_lease_devices_of_their_own_and_go_on_after_one_that_died(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    done = command(
        tmp_path / "app.py",
        *("-m", "+x=0,1,2,3,4", "hydra/launcher=leased"),
        *("hydra.launcher.gpus_per_job=2", "hydra.launcher.devices=[a,b,c,d,e]"),
        *("hydra.sweep.dir=sweep", "hydra.sweep.subdir=${hydra.job.num}"),
        folder=tmp_path,
    )
    assert done.status == 0, done.said
    sweep = tmp_path / "sweep"
    leases = [json.loads((sweep / n / "lease.json").read_text()) for n in "0234"]
    assert all(len(set(lease["devices"])) == 2 for lease in leases)
    clashes = [
        (one, other)
        for one in leases
        for other in leases
        if one is not other
        and set(one["devices"]) & set(other["devices"])
        and one["began"] < other["ended"]
        and other["began"] < one["ended"]
    ]
    assert not clashes
    assert any(
        one["began"] < other["ended"] and other["began"] < one["ended"]
        for one in leases
        for other in leases
        if one is not other
    )
    assert "was killed by SIGKILL" in (sweep / "1" / "failure.txt").read_text()
    assert (sweep / "4" / "job.log").read_text() == "computing\n"
    assert "job 4 has ended" in done.said
    assert "computing" not in done.said


def test_more_devices_than_there_are_cannot_be_leased(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert LeasedLauncher(gpus_per_job=2, devices=None).devices == ["3", "5"]
    with pytest.raises(ValueError, match=r"gpus_per_job=3, and there are 2 GPUs to lease \(3, 5\)"):
        LeasedLauncher(gpus_per_job=3, devices=None)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_sweep_that_is_told_to_stop_ends_its_jobs(number, status):
    ended = []

    class Process:
        def terminate(self):
            ended.append("told")
            if number == signal.SIGHUP:
                signal.raise_signal(number)  # a closed terminal sends it twice

        def join(self):
            ended.append("waited for")

    class Started:
        process = Process()

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as stopped, _ended([Started()]):
            signal.raise_signal(number)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert stopped.value.code == status
    assert ended == ["told", "waited for"]
