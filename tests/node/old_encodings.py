"""Blocks that versions before 7.0 stored small collections in, and values to put into them."""

WORDS = [b"", b"a", b"7", b"12", b"13", b"-1", b"300", b"-70000", b"9000000", b"5000000000"]
WORDS += [b"x" * 63, b"y" * 64, b"z" * 300, b"w" * 17000]
PAIRS = [part for number, word in enumerate(WORDS) for part in (word + b"k%d" % number, word)]
SCORES = [b"a", b"-2.5", b"b", b"1", b"c", b"300", b"d", b"1e+20"]


def ziplist(values: list[bytes]) -> bytes:
    body, before, last = b"", 0, 10
    for value in values:
        last = 10 + len(body)
        entry = bytes((before,)) if before < 254 else b"\xfe" + before.to_bytes(4, "little")
        entry += ziplist_body(value)
        body += entry
        before = len(entry)
    return (
        (len(body) + 11).to_bytes(4, "little")
        + last.to_bytes(4, "little")
        + len(values).to_bytes(2, "little")
        + body
        + b"\xff"
    )


def ziplist_body(value: bytes) -> bytes:
    if value.lstrip(b"-").isdigit() and b"%d" % int(value) == value:
        number = int(value)
        if 0 <= number <= 12:
            return bytes((0xF1 + number,))
        for size, tag in ((1, 0xFE), (2, 0xC0), (3, 0xF0), (4, 0xD0), (8, 0xE0)):
            if -(1 << 8 * size - 1) <= number < 1 << 8 * size - 1:
                return bytes((tag,)) + number.to_bytes(size, "little", signed=True)
    if len(value) < 64:
        return bytes((len(value),)) + value
    if len(value) < 16384:
        return (0x4000 | len(value)).to_bytes(2, "big") + value
    return b"\x80" + len(value).to_bytes(4, "big") + value


def zipmap(parts: list[bytes]) -> bytes:
    body = b""
    for number, part in enumerate(parts):
        size = len(part)
        body += bytes((size,)) if size < 254 else b"\xfe" + size.to_bytes(4, "little")
        body += b"\x03" * (number % 2) + part + b"..." * (number % 2)
    return bytes((min(len(parts) // 2, 254),)) + body + b"\xff"
