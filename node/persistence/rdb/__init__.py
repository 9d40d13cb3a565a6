"""RDB: data sets as files and single values as DUMP payloads, in Redis's own format.

Pure functions of bytes; files and sockets belong to others.

codes.py    the numbers of the format, the checksum, RdbError
encode.py   values to bytes, a table of encoders; decode.py back again, a table of decoders
stream.py   both for streams
legacy.py   ziplist, zipmap and intset
writer.py   write(): a data set in pieces; reader.py Reader: the same back, fed piece by piece
dump.py     encode_dump(), decode_dump(): DUMP and RESTORE; the same for FUNCTION
"""

from node.persistence.rdb import stream
from node.persistence.rdb.codes import (
    NEWEST_REDIS_VERSION,
    VALKEY_VERSION,
    VERSION,
    Import,
    PayloadError,
    RdbError,
)
from node.persistence.rdb.dump import (
    decode_dump,
    decode_functions,
    encode_dump,
    encode_functions,
)
from node.persistence.rdb.reader import Reader
from node.persistence.rdb.writer import FieldDeadlines, Record, needs_valkey_version, write

assert stream  # importing it fills the tables

__all__ = [
    "NEWEST_REDIS_VERSION",
    "VALKEY_VERSION",
    "VERSION",
    "FieldDeadlines",
    "Import",
    "PayloadError",
    "RdbError",
    "Reader",
    "Record",
    "decode_dump",
    "decode_functions",
    "encode_dump",
    "encode_functions",
    "needs_valkey_version",
    "write",
]
