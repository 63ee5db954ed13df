"""Each flaw is found by what shows it, and not where it does not; every vote has words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlabel.lf import LF, apply
from llmlabel.rag import facts as facts_module
from llmlabel.rag.facts import compared_facts, contexts_of, facts_of, said_changes
from llmlabel.rag.flaws import FLAWS, absent_of, flaw_task, pair_lfs, text_lfs
from llmlabel.rag.flaws_pairs import expired, retired_terms
from llmlabel.rag.flaws_personal import mask_persons, personal_counts
from llmlabel.rag.flaws_text import metadata_lf
from llmlabel.rag.surface import surface

ARTICLE = """# Borrowing a projector

You can borrow a projector for up to 14 days if you work in the building. Open the booking page,
choose a date and enter your room. We bring it before 9 am.

- The deposit is £40, and you get it back when the projector returns.
- If the lamp fails, call the desk; do not open the case.

When you need it for longer, write to us at least 3 working days before the loan ends. Loans can
be extended twice, unless somebody else is waiting. A late return costs £5 for each day.
"""
MENU = """[Home](/) [News](/news) [Shop](/shop) [Jobs](/jobs) [Contact](/contact)
- [Lamps](/lamps)
- [Chairs](/chairs)
Skip to content · Sign in · Create an account · Follow us
© Acme · Privacy policy · Sitemap"""
CONSENT = """We use cookies. Some cookies are needed for the site to work, others measure visits.
Accept all. Reject all. Cookie settings. Powered by consent module.
JavaScript is disabled. Please enable JavaScript. Loading..."""
TEMPLATE = "<h1>{{page.title}}</h1> <p>{{page.body}}</p> The price is undefined today, says NaN."
PRAISE = """Discover a world that makes your heart sing. Our new lamps are a love letter to the
evening: a glow like a story told by friends, a shape that dreams with you. We believe in beautiful
moments, in joy that stays, in light that truly feels like home. Every lamp is made with passion,
and every evening becomes a journey. Imagine the magic. Let yourself be inspired, and find the
unforgettable in the everyday. Because the best stories are told in the glow of a lamp."""
RECORD = """Call with Mrs Agnes Thornbury, 12 Mill Lane, about order 4471882. She can be reached at
agnes.thornbury@example.org or 07700 900123. She was born on 3 May 1950 and hears badly."""
DEFERRAL = "Can I bring my dog? It depends. Please contact our team."


def said(text: str, lfs: list[LF] | None = None) -> dict[str, set[str]]:
    """Return by class the LFs that vote for it."""
    lfs = lfs or text_lfs()
    votes = apply(lfs, {"text": [text]}, flaw_task())
    out: dict[str, set[str]] = {}
    for name, vote in zip(votes.lf_names, votes.votes[0], strict=True):
        if vote >= 0:
            out.setdefault(votes.classes[vote], set()).add(name)
    return out


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        (MENU, "BOILERPLATE"),
        (CONSENT, "BOILERPLATE"),
        (TEMPLATE, "BOILERPLATE"),
        (PRAISE, "PROMOTIONAL"),
        (RECORD, "PERSONAL"),
        (DEFERRAL, "THIN"),
    ],
)
def test_a_flaw_is_found(text: str, flaw: str) -> None:
    assert flaw in said(text)


def test_an_article_has_no_flaw_and_several_lfs_say_so() -> None:
    assert said(ARTICLE) == {
        "GOOD": {"boilerplate.prose", "thin.long", "promotional.facts", "personal.nobody"}
    }


def test_repeated_lines_are_boilerplate_from_four_documents_on() -> None:
    line = "Our shop is open every day from nine in the morning to six.\n"
    texts = [line + f"Only number {i} says this short thing here." for i in range(4)]
    assert (surface(texts)["repeated"] > 0.5).all()
    assert (surface(texts[:3])["repeated"] == 0).all()


def test_every_vote_of_the_text_lfs_says_why() -> None:
    for text in (ARTICLE, MENU, CONSENT, TEMPLATE, PRAISE, RECORD, DEFERRAL):
        for lf in text_lfs():
            batch = {"text": [text], **{f.name: f.compute({"text": [text]}) for f in lf.features}}
            if lf(batch)[0][0] == 0:
                assert lf.why is not None
                assert len(lf.why({name: column[0] for name, column in batch.items()})) > 5


def test_every_lf_speaks_of_a_known_flaw() -> None:
    lfs = [*text_lfs(required=["title"]), *pair_lfs()]
    against = absent_of(lfs)
    for lf in lfs:
        assert lf.labels is not None
        assert lf.labels[0] in FLAWS or against[lf.name][0] in FLAWS
    assert len({lf.name for lf in lfs}) == len(lfs)


def test_empty_and_missing_texts_are_thin_and_nothing_crashes() -> None:
    votes = apply(text_lfs(), {"text": ["", None, "\n\n"]}, flaw_task())
    assert (votes["thin.words"] == flaw_task().index("THIN")).all()


@given(st.lists(st.text(max_size=200), max_size=6))
def test_any_text_can_be_measured(texts: list[str]) -> None:
    found = surface(texts)
    assert len(found) == len(texts)
    for share in ("links", "sentences", "repeated"):
        assert ((found[share] >= 0) & (found[share] <= 1.0)).all(), share


def test_metadata_that_is_empty_or_a_placeholder_is_missing() -> None:
    lf = metadata_lf(["title"])
    assert lf({"title": ["A", "", None, "{{title}}", " "]})[0].tolist() == [-1, 0, 0, 0, 0]


def test_an_organisations_own_addresses_are_no_persons() -> None:
    texts = [
        "Write to orders@acme.example or to clubs@acme.example, or call 0800 123 4567.",
        "Write to jo@gmail.com",
        "Version 2024-05-17 12:30, numbers 1 200 300",
    ]
    found = personal_counts(texts)
    assert found["email"].tolist() == [0, 1, 0]
    assert found["phone"].tolist() == [0, 0, 0]


def test_masks_take_the_place_of_data_with_a_form() -> None:
    (masked,) = mask_persons([RECORD])
    assert "<NAME>, <ADDRESS>" in masked
    assert "<EMAIL> or <PHONE>" in masked
    for part in ("Thornbury", "Mill Lane", "900123"):
        assert part not in masked
    assert mask_persons([ARTICLE]) == [ARTICLE]


def test_facts_are_numbers_with_units_whatever_the_form() -> None:
    def found(text: str) -> int:
        return int(facts_of([text]).counts[0])

    assert found("Within 14 days, for £4.50 or 10 %.") == 3
    assert found("1. First\n2. Second") == 0
    assert found("On 2024-05-17") == 0
    pairs = [("**14 days**", "14-day"), ("1,500 litres", "1500 litres"), ("£ 5", "£5")]
    for left, right in pairs:
        shared, changed = compared_facts(facts_of([left, right]), np.array([0]), np.array([1]))
        assert (shared[0], changed[0]) == (1, 0), (left, right)


def test_contexts_tell_swapped_numbers_apart() -> None:
    texts = ["Tents: 2 years. Packs: 5 years.", "Tents: 5 years. Packs: 2 years."]
    one, other = np.array([0]), np.array([1])
    assert compared_facts(facts_of(texts), one, other)[0].tolist() == [2]
    assert compared_facts(contexts_of(texts), one, other)[0].tolist() == [0]


@given(st.lists(st.text("12 days£%.\n", max_size=40), min_size=2, max_size=5))
def test_comparing_facts_is_symmetric_and_bounded(texts: list[str]) -> None:
    facts = facts_of(texts)
    left, right = (x.ravel() for x in np.indices((len(texts), len(texts))))
    shared, changed = compared_facts(facts, left, right)
    back = compared_facts(facts, right, left)
    assert (shared == back[0]).all()
    assert (changed == back[1]).all()
    assert (shared + changed <= np.minimum(facts.counts[left], facts.counts[right])).all()
    assert (changed[left == right] == 0).all()


def test_changes_are_quoted_from_both_texts() -> None:
    old = "# Delivery\n| Standard | £4.95 |\n| Express | £8.50 |"
    new = "| Express | £9.95 |\n| Standard | £3.95 |"
    assert said_changes(old, new) == (
        '"Standard | £4.95" -> "Standard | £3.95"; "Express | £8.50" -> "Express | £9.95"'
    )
    assert said_changes(old, old) == ""


def test_validity_ends_by_the_dates_of_the_collection() -> None:
    dates = np.array(["2025-06-01", "2023-01-01", "2023-01-01"], "M8[D]")
    texts = ["Prices are valid until 31 December 2026.", "Valid until May 2023.", "In 2023."]
    assert expired(texts, dates) == ["", "Valid until May 2023", ""]
    assert expired(["This page is no longer maintained."], dates[:1]) == [
        "This page is no longer maintained"
    ]


def test_terms_in_new_or_undated_documents_are_not_retired() -> None:
    texts = ["We say Lark Points", "We say Lark Points", "New text", "We say Lark Points"]
    dates = np.array(["2020-01-01", "2020-01-02", "2024-01-01", "NaT"], "M8[D]")
    assert retired_terms(texts, dates) == ["", "", "", ""]


@given(st.text("0129 days£%.,°C-\n", max_size=60))
def test_facts_of_a_line_are_those_of_many_texts(text: str) -> None:
    line = text.replace("\n", " ")
    listed = facts_module._listed([line]).select("unit", "number").rows()
    assert set(listed) == facts_module._said(line)


def test_equal_documents_repeat_no_lines() -> None:
    table = "| Lamp | £4 |\n| Chair with four legs and arms | £40 |"
    assert surface([table] * 6)["repeated"].tolist() == [0.0] * 6
