"""Filter a corpus: text rules, language, duplicates, leaks and personal data."""
