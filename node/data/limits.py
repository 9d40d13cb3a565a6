"""How large a collection may be in each compact encoding before it changes to the general one.

Our values have one form in memory whatever OBJECT ENCODING says; they keep track of the encoding
because clients see it: in OBJECT ENCODING, in what SCAN returns at once, in the order of a small
set of integers. A node has one `Limits`, shared by all its values; CONFIG SET assigns to it, and
as in Redis the next write to a value looks at the new limit.
Source: redis.conf, "Advanced config".
"""

LISTPACK_OVERHEAD = 7  # its header and end mark
_NODE_BYTES = (4096, 8192, 16384, 32768, 65536)  # list-max-listpack-size -1 to -5
_SAFE_BYTES = 8192  # of a node whose limit is a count
_UNCOUNTED = 1 << 62


class Limits:
    """The encoding limits in force, named after their directives."""

    __slots__ = (
        "_list_max_listpack_size",
        "hash_max_listpack_entries",
        "hash_max_listpack_value",
        "list_bytes",
        "list_count",
        "list_half_bytes",
        "list_half_count",
        "list_room",
        "list_short",
        "set_max_intset_entries",
        "set_max_listpack_entries",
        "set_max_listpack_value",
        "stream_node_max_bytes",
        "stream_node_max_entries",
        "zset_max_listpack_entries",
        "zset_max_listpack_value",
    )

    def __init__(self) -> None:
        """The defaults of Valkey 9.1."""
        self.list_max_listpack_size = -2
        self.hash_max_listpack_entries = 512
        self.hash_max_listpack_value = 64
        self.set_max_intset_entries = 512
        self.set_max_listpack_entries = 128
        self.set_max_listpack_value = 64
        self.stream_node_max_bytes = 4096
        self.stream_node_max_entries = 100
        self.zset_max_listpack_entries = 128
        self.zset_max_listpack_value = 64

    @property
    def list_max_listpack_size(self) -> int:
        """Entries of a list node when positive, one of five byte sizes when negative."""
        return self._list_max_listpack_size

    @list_max_listpack_size.setter
    def list_max_listpack_size(self, size: int) -> None:
        self._list_max_listpack_size = size
        if size < 0:
            self.list_bytes = _NODE_BYTES[min(-size, len(_NODE_BYTES)) - 1]
            self.list_count = _UNCOUNTED
            self.list_half_bytes = self.list_bytes // 2
        else:
            self.list_bytes = self.list_half_bytes = _SAFE_BYTES
            self.list_count = max(size, 1)
        # What a quicklist must come down to; and a length it must have then, entries being >= 2.
        self.list_half_count = self.list_count // 2
        self.list_short = min(self.list_half_count, self.list_half_bytes // 2)
        self.list_room = self.room_for_list(LISTPACK_OVERHEAD, 0)

    # An entry of a listpack takes at most this much more than the string in it.
    ENTRY_OVERHEAD = 11

    def room_for_list(self, size: int, count: int) -> int:
        """Bytes that strings and their overheads may add before a limit can have been crossed.

        `size` and `count` are those of the list so far, as one listpack.
        """
        by_count = (self.list_count - count + 1) * self.ENTRY_OVERHEAD - 1
        return min(self.list_bytes - size, by_count)
