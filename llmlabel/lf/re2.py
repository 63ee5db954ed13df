"""Python's regular expressions in RE2's words, for texts beyond ASCII."""

from __future__ import annotations

from typing import Final

__all__ = ["superset"]

# What Python's classes hold of Unicode; RE2's own hold ASCII only.
_CLASSES: Final = {
    "d": r"\p{Nd}",
    "w": r"\p{L}\p{N}_",
    "s": r"\x09-\x0d\x1c-\x20\x{85}\x{a0}\p{Z}",
}


def superset(pattern: str) -> tuple[str, bool] | None:
    r"""Return an expression for RE2 that finds all that Python's `re` finds, or more.

    Word borders and ends are left out, since RE2's know ASCII alone: then who is found
    has to be looked at again, and the second value is false. None where the pattern has
    what cannot be said so.

    Examples
    --------
    >>> superset(r"\bab\d+$"), superset("ab?")
    (('ab[\\p{Nd}]+', False), ('ab?', True))
    >>> superset(r"(?<!a)b"), superset(r"(a)\1")
    (None, None)
    """
    out: list[str] = []
    exact = True
    in_class, at = False, 0
    while at < len(pattern):
        c = pattern[at]
        at += 1
        if c == "\\":
            said = _escape(pattern[at : at + 1], in_class)
            if said is None:
                return None
            out.append(said)
            exact = exact and said != ""
            at += 1
        elif in_class:
            in_class = c != "]" or _opens(pattern, at - 1)
            out.append(c)
        elif c == "[":
            in_class = True
            out.append(c)
        elif c == "(" and pattern[at : at + 1] == "?" and not _plain_group(pattern, at):
            return None
        elif c == "$":
            exact = False
        else:
            out.append(c)
    return "".join(out), exact


def _escape(c: str, in_class: bool) -> str | None:
    """Return what stands for a backslash and `c`."""
    if c in ("b", "B") and not in_class:
        return ""
    if c in _CLASSES:
        return _CLASSES[c] if in_class else f"[{_CLASSES[c]}]"
    if c.lower() in _CLASSES:  # the class's opposite
        return None if in_class else f"[^{_CLASSES[c.lower()]}]"
    if not c or c.isdigit() or c in "bBAZzGQECpPNuUx":
        return None
    return f"\\{c}"


def _opens(pattern: str, at: int) -> bool:
    """Return whether a bracket at this place is the first of its class, and so a sign."""
    start = pattern.rfind("[", 0, at)
    return pattern[start + 1 : at] in ("", "^")


def _plain_group(pattern: str, at: int) -> bool:
    return pattern.startswith(("?:", "?P<"), at)
