"""ioredis, and bullmq on top of it, on a node."""

import json
import subprocess

import pytest
import redis

PARTS = (
    *("pipelines", "transactions", "scripts", "messages", "streams", "queues", "invalidations"),
    "scanning",
)


def run(directory, *words):
    done = subprocess.run(
        ["node", *map(str, words)], cwd=directory, capture_output=True, text=True, timeout=40
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("part", PARTS)
def test_ioredis(node_clients, node_port, part):
    run(node_clients, "essentials.js", node_port, part)


def test_bullmq_runs_its_jobs(node_clients, node_port):
    if not (node_clients / "node_modules" / "bullmq").is_dir():
        pytest.skip("needs bullmq: npm install --prefix tests/clients")
    with redis.Redis(port=node_port) as client:
        client.flushall()
    result = json.loads(run(node_clients, "bullmq_jobs.js", node_port))
    assert result == {
        "plain": [2 * i for i in range(20)],
        "delayed": 42,
        "flaky": 8,
        "broken": "never",
        "urgent": 10,
        "flow": 12,
        "counts": {"completed": 27, "failed": 1, "waiting": 0, "delayed": 0},
    }
