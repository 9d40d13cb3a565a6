"""Slots that move away and back under stock clients; scripts/live-reshard does it with half of all,
beside a real server."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_application_notices_that_slots_move(node_clients):
    words = ["--servers", "slotfleet-server", "--modes", "by-key,atomic"]
    size = ["--slots", "30", "--clients", "1", "--keys", "2000"]
    done = subprocess.run(
        [sys.executable, ROOT / "tests/evidence/live.py", *words, *size],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = re.findall(r"^slotfleet-server .*? (\d+) +(\d+) +0 +0 +0 ", done.stdout, re.M)
    assert [keys for keys, _ in counts] == ["2200"] * 2, done.stdout
    assert all(int(requests) > 10 for _, requests in counts)
