"""Text as JavaScript counts it: offsets and lengths are UTF-16 code units."""


def units(text: str) -> int:
    """The number of UTF-16 code units of `text` (JavaScript's `length`)."""
    if text.isascii():
        return len(text)
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def prefix(text: str, count: int) -> str:
    """The first `count` UTF-16 code units of `text`; a cut through a surrogate pair leaves the pair out."""
    if text.isascii():
        return text[:count]
    return text.encode("utf-16-le")[: 2 * count].decode("utf-16-le", "ignore")


def split_trailing_surrogate(text: str) -> tuple[str, str]:
    """`text` and, apart from it, the high surrogate it ends with: the first half of a pair still to come."""
    if text and "\ud800" <= text[-1] <= "\udbff":
        return text[:-1], text[-1]
    return text, ""


def repaired(text: str) -> str:
    """`text` with surrogate pairs joined and each lone surrogate replaced by U+FFFD, so that it can be encoded."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def is_sound(text: str) -> bool:
    """Whether `text` can be encoded as UTF-8, which is to say that it has no lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
