"""What the shared web documents show of duplicates: recall by edit rate, and no chance pairs."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from llmlabel.corpus.clusters import Clusters, find_duplicates
from llmlabel.corpus.sketches import sketch

WEB = Path(__file__).parents[3] / "shared" / "data" / "web" / "web.parquet"

pytestmark = pytest.mark.skipif(not WEB.is_file(), reason=f"{WEB} is not here")


@pytest.fixture(scope="module")
def pairs() -> tuple[list[str], Clusters]:
    """Synthetic duplicates after their originals, and the clusters of both."""
    table = pq.read_table(WEB, columns=["id", "text"])
    texts = dict(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))
    copies = sorted(name for name in texts if name.startswith("syn/"))
    originals = [name.split("/", 2)[2] for name in copies]
    found = find_duplicates(sketch([texts[name] for name in (*originals, *copies)]))
    return copies, found


def test_recall_by_edit_rate(pairs: tuple[list[str], Clusters]) -> None:
    copies, found = pairs
    together = found.cluster[: len(copies)] == found.cluster[len(copies) :]
    rates = np.array([name.split("/")[1] for name in copies])
    for rate, least in (("0", 1.0), ("0.01", 1.0), ("0.03", 0.99), ("0.05", 0.9)):
        assert together[rates == rate].mean() >= least, rate


def test_copies_without_edits_are_one_text(pairs: tuple[list[str], Clusters]) -> None:
    copies, found = pairs
    same = np.array([name.startswith("syn/0/") for name in copies])
    # A few stand in a cluster whose kept document is another page.
    assert (found.kind[len(copies) :][same] == "exact").mean() > 0.98
