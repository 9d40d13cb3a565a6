"""The simulated disk loses what a real one may lose, and nothing else; both do the same else."""

import random
from pathlib import Path

import pytest

from node.disk import Disk, PowerLoss, RealDisk, SimulatedDisk, replace


@pytest.fixture(params=["real", "simulated"])
def disk(request, tmp_path: Path, monkeypatch) -> Disk:
    monkeypatch.chdir(tmp_path)
    return RealDisk() if request.param == "real" else SimulatedDisk(random.Random(1))


def test_files_and_names(disk):
    disk.make_directory("log")
    file = disk.append_to("log/a")
    file.write(b"hello ")
    file.write(b"world")
    assert file.size() == 11
    file.truncate(5)
    file.write(b"!")
    file.sync()
    file.close()
    again = disk.append_to("log/a")
    again.write(b"?")
    again.close()
    assert disk.read("log/a") == b"hello!?"
    disk.append_to("log/b").close()
    disk.rename("log/a", "log/b")
    disk.sync_directory("log")
    assert disk.names("log") == ["b"]
    assert disk.exists("log/b") and not disk.exists("log/a")
    disk.remove("log/b")
    for missing in (lambda: disk.read("log/b"), lambda: disk.remove("log/b")):
        with pytest.raises(FileNotFoundError):
            missing()


def test_replace(disk):
    replace(disk, "conf", b"one")
    replace(disk, "./conf", b"two")
    assert disk.read("conf") == b"two"
    assert disk.names(".") == ["conf"]


def test_a_crash_keeps_what_was_synced_and_tears_the_rest():
    found = set()
    for seed in range(200):
        disk = SimulatedDisk(random.Random(seed))
        file = disk.append_to("aof")
        file.write(b"synced,")
        file.sync()
        disk.sync_directory(".")
        file.write(b"lost?")
        disk.crash()
        found.add(disk.read("aof"))
        assert disk.read("aof").startswith(b"synced,")
    assert {b"synced,", b"synced,lo", b"synced,lost?"} < found
    assert any(b"\0" in data for data in found)


def test_a_name_that_was_not_synced_may_be_undone():
    found = set()
    for seed in range(50):
        disk = SimulatedDisk(random.Random(seed))
        for name in ("old", "new"):
            file = disk.append_to(name)
            file.write(name.encode())
            file.sync()
            disk.sync_directory(".")
        disk.rename("new", "old")
        disk.crash()
        found.add((disk.read("old"), disk.exists("new")))
    assert found == {(b"old", True), (b"new", False)}


def test_replacing_survives_a_loss_of_power_at_every_step():
    steps = 0
    for power in range(20):
        for seed in range(30):
            disk = SimulatedDisk(random.Random(seed))
            replace(disk, "conf", b"the old one")
            disk.power = power
            try:
                replace(disk, "conf", b"the new one, which is longer")
                done = True
            except PowerLoss:
                done = False
            disk.crash()
            content = disk.read("conf")
            assert content in (b"the old one", b"the new one, which is longer")
            assert not done or content.startswith(b"the new")
            steps = power if not done else steps
    assert steps >= 4  # a file, its bytes, a sync, a name, and its sync


def test_the_same_seed_loses_the_same():
    def remains(seed: int) -> bytes:
        disk = SimulatedDisk(random.Random(seed))
        file = disk.append_to("aof")
        disk.sync_directory(".")
        file.write(bytes(range(200)))
        disk.crash()
        return disk.read("aof")

    assert all(remains(seed) == remains(seed) for seed in range(20))
    assert len({remains(seed) for seed in range(20)}) > 10
