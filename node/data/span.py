"""Redis's index rules, shared by LRANGE, LTRIM, ZRANGE and their kin."""


def span(start: int, stop: int, length: int) -> tuple[int, int]:
    """The half-open range of places that `start` to `stop` (inclusive, negative from the end) name.

    Always 0 <= first <= end <= length; an empty range has first == end.
    """
    first = start if start >= 0 else max(start + length, 0)
    end = (stop if stop >= 0 else stop + length) + 1
    end = min(end, length)
    return (first, end) if first < end else (0, 0)
