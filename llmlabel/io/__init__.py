"""Read and write tables, YAML and files, so that nothing is half-written or misread."""

from llmlabel.io.documents import SET_ASIDE, Batch, ReadOptions
from llmlabel.io.files import (
    append_lines,
    atomic_write,
    cache_dir,
    canonical_json,
    fingerprint,
    fingerprint_path,
)
from llmlabel.io.reading import read_shard
from llmlabel.io.rows import add_columns, check_rows
from llmlabel.io.shards import Listing, Shard, list_shards
from llmlabel.io.streams import STDIN, Chunk, Sink, count_rows, open_sink, read_chunks
from llmlabel.io.tables import plain_value, read_table, write_table
from llmlabel.io.yamls import Positions, parse_yaml, read_yaml

__all__ = [
    "SET_ASIDE",
    "STDIN",
    "Batch",
    "Chunk",
    "Listing",
    "Positions",
    "ReadOptions",
    "Shard",
    "Sink",
    "add_columns",
    "append_lines",
    "atomic_write",
    "cache_dir",
    "canonical_json",
    "check_rows",
    "count_rows",
    "fingerprint",
    "fingerprint_path",
    "list_shards",
    "open_sink",
    "parse_yaml",
    "plain_value",
    "read_chunks",
    "read_shard",
    "read_table",
    "read_yaml",
    "write_table",
]
