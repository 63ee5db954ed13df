"""The published rules once more, in plain Python, for the tests of the fast ones."""

from __future__ import annotations

import re
from collections import Counter

from llmlabel.corpus.characters import ends_sentence, symbols
from llmlabel.corpus.segment import segment

STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)


def words_of(text: str) -> list[str]:
    found = segment([text])
    return [found.text(found.words, i) for i in range(len(found.words))]


def gopher_quality(text: str) -> str:  # noqa: C901 - one if per rule
    words = words_of(text)
    spoken = [w for w in words if any(not symbols()[ord(c)] for c in w)]
    if len(spoken) < 50:
        return "min_words"
    if len(spoken) > 100_000:
        return "max_words"
    mean = sum(map(len, spoken)) / len(spoken)
    if mean < 3:
        return "min_word_length"
    if mean > 10:
        return "max_word_length"
    if text.count("#") / len(words) > 0.1:
        return "max_hashes"
    if (text.count("...") + text.count("…")) / len(words) > 0.1:
        return "max_ellipses"
    lines = text.splitlines()
    if sum(line.lstrip().startswith(("•", "-")) for line in lines) / len(lines) > 0.9:
        return "max_bullet_lines"
    if sum(line.rstrip().endswith(("...", "…")) for line in lines) / len(lines) > 0.3:
        return "max_ellipsis_lines"
    if sum(any(c.isalpha() for c in w) for w in words) / len(words) < 0.8:
        return "min_alphabetic_words"
    if len(STOP_WORDS & set(words)) < 2:
        return "min_stop_words"
    return ""


def repeats(items: list[str]) -> tuple[int, int]:
    seen: set[str] = set()
    count = characters = 0
    for item in items:
        if item in seen:
            count, characters = count + 1, characters + len(item)
        seen.add(item)
    return count, characters


def duplicate_ngrams(words: list[str], n: int) -> int:
    at = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    seen: set[tuple[str, ...]] = set()
    again = [gram in seen or seen.add(gram) is not None for gram in at]
    total = i = 0
    while i < len(at):
        if again[i]:
            total += sum(map(len, at[i]))
            i += n
        else:
            i += 1
    return total


def gopher_repetition(text: str) -> str:  # noqa: C901 - one if per rule
    if not text:
        return "min_characters"
    paragraphs = re.split(r"\n{2,}", text.strip())
    count, characters = repeats(paragraphs)
    if count / len(paragraphs) > 0.3:
        return "max_duplicate_paragraphs"
    if characters / len(text) > 0.2:
        return "max_duplicate_paragraph_characters"
    lines = re.split(r"\n+", text)
    count, characters = repeats(lines)
    if count / len(lines) > 0.3:
        return "max_duplicate_lines"
    if characters / len(text) > 0.2:
        return "max_duplicate_line_characters"
    words = words_of(text)
    for n, limit in ((2, 0.2), (3, 0.18), (4, 0.16)):
        grams = Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
        if grams:
            gram, count = grams.most_common(1)[0]
            if len(gram) * count / len(text) > limit:
                return f"max_top_{n}_gram"
    for n, limit in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.1)):
        if duplicate_ngrams(words, n) / len(text) > limit:
            return f"max_duplicate_{n}_grams"
    return ""


def sentences(line: str) -> int:
    count, closed = 1, False
    for word in words_of(line):
        end = len(word) == 1 and bool(ends_sentence()[ord(word)])
        if end:
            closed = True
        elif closed and not is_punctuation(word):
            count, closed = count + 1, False
    return count


def is_punctuation(word: str) -> bool:
    import unicodedata

    return all(unicodedata.category(c)[0] == "P" for c in (word[0], word[-1]))


def c4(text: str) -> tuple[str, str]:
    """Return the reason and the lines that are kept."""
    kept, count, reasons = [], 0, set()
    for raw in text.splitlines():
        line = raw.strip()
        words = line.split()
        if any(len(word) > 1000 for word in words):
            continue
        line = re.sub(r"\[\d*]|\[edit]|\[citation needed]", "", line)
        if not line.endswith((".", "?", "!", '"', "'")) or line.endswith("..."):
            continue
        if len(words) < 3:
            continue
        low = line.lower()
        if "lorem ipsum" in low:
            reasons.add("max_lorem_ipsum")
        if "{" in line:
            reasons.add("max_curly_brackets")
        if "javascript" in low or any(phrase in low for phrase in POLICIES):
            continue
        count += sentences(line)
        kept.append(line)
    for reason in ("max_lorem_ipsum", "max_curly_brackets"):
        if reason in reasons:
            return reason, ""
    return ("min_sentences" if count < 5 else ""), "\n".join(kept).strip()


def fineweb(text: str) -> str:
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return "min_lines"
    ends = sum(bool(ends_sentence()[ord(line[-1])]) for line in lines)
    if ends / len(lines) < 0.12:
        return "min_punctuated_lines"
    if sum(len(line) <= 30 for line in lines) / len(lines) > 0.67:
        return "max_short_lines"
    if repeats(lines)[1] / len(text.replace("\n", "")) > 0.01:
        return "max_duplicate_characters"
    if text.count("\n") / len(words_of(text)) > 0.3:
        return "max_newlines"
    return ""
