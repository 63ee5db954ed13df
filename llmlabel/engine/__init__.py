"""Map a pure function over shards, on one machine or a cluster, and go on after a kill."""
