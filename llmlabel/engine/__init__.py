"""Map a pure function over shards, on one machine or a cluster, and go on after a kill."""

from llmlabel.engine.mapping import ENGINES, EngineName, MapResult, map_shards
from llmlabel.engine.parts import Part, PartResult, add_facts

__all__ = ["ENGINES", "EngineName", "MapResult", "Part", "PartResult", "add_facts", "map_shards"]
