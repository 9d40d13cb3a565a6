"""The dialogues of dialogues.txt, held with a node in this process and with a real server."""

import socket
from collections.abc import Iterator
from pathlib import Path

import hiredis
from local import local_node

from node.resp import encode_request, split_words

DIALOGUES = Path(__file__).with_name("dialogues.txt")


def dialogues() -> Iterator[list[list[bytes]]]:
    """Lists of commands."""
    for paragraph in DIALOGUES.read_bytes().split(b"\n\n"):
        lines = [line for line in paragraph.splitlines() if line and line[:1] != b"#"]
        if lines:
            yield [split_words(line) or [] for line in lines]


def count_replies(data: bytes) -> int:
    reader = hiredis.Reader()
    reader.feed(data)
    count = 0
    while reader.has_data():
        assert reader.gets() is not False, f"half a reply: {data!r}"
        count += 1
    return count


def receive(sock: socket.socket, count: int) -> bytes:
    """So many replies, byte for byte; or less, if no more come."""
    reader, data = hiredis.Reader(), b""
    try:
        while count:
            more = sock.recv(1 << 16)
            if not more:
                return data
            data += more
            reader.feed(more)
            while reader.has_data() and reader.gets() is not False:
                count -= 1
    except TimeoutError:
        pass
    return data


def test_replies_are_those_of_a_real_server(valkey_server):
    server = valkey_server("--enable-debug-command", "yes")
    local = local_node(enable_debug_command="yes")
    for dialogue in dialogues():
        client = local.client()
        with socket.create_connection(("127.0.0.1", server.port), 2) as sock:
            sock.settimeout(2)
            for command in dialogue:
                request = encode_request(command)
                ours = client.raw(request)
                sock.sendall(request)
                theirs = receive(sock, count_replies(ours))
                if command[0] == b"HELLO" and theirs[:1] in b"*%":
                    continue  # here names and versions differ
                assert ours == theirs, f"{command} in {dialogue}"
            local.node.close_session(client.session)
