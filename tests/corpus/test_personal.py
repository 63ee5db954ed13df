"""Personal data is found by what it is, and numbers that only look like it are not."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlabel.corpus.personal import KINDS, find_personal, mask_personal
from llmlabel.errors import DataError, UnknownNameError


def jwt(header: object) -> str:
    parts = (header, {"sub": "1234567890", "name": "J"})
    coded = [base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts]
    return ".".join([*coded, "SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV"])


# Constructed for this test; the numbers are those of manuals and test systems.
PERSONAL = {
    "email": [
        "jane.doe@example.org", "j+tag@mail.example.co.uk", "o'brien_7@a-b.info", "X@sub.domain.de",
    ],
    "phone": [
        "+49 30 901820", "+1 (202) 456-1111", "+44 20 7946 0958", "+33 1 42 68 53 00",
        "(202) 456-1111", "202-456-1111", "+14155552671", "+81 3-1234-5678", "(+48) 22 525 80 00",
    ],
    "ip": [
        "93.184.216.34", "8.8.8.8", "203.1.77.140", "2606:2800:220:1:248:1893:25c8:1946",
        "2001:4860:4860::8888",
    ],
    "iban": [
        "DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB82 WEST 1234 5698 7654 32",
        "FR14 2004 1010 0505 0001 3M02 606", "NL91ABNA0417164300",
    ],
    "card": [
        "4111 1111 1111 1111", "5555555555554444", "3782 822463 10005", "6011-1111-1111-1117",
        "4222222222222", "30569309025904",
    ],
    "key": [
        "AKIAIOSFODNN7EXAMPLE", "sk-proj-Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8Qr9St0", "ghp_" + "a1B2" * 9,
        "github_pat_" + "Ab1_" * 8, "xoxb-123456789012-abcdefABCDEF", "AIza" + "Sy1-_" * 7,
        jwt({"alg": "HS256", "typ": "JWT"}),
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\n-----END RSA PRIVATE KEY-----",
    ],
}  # fmt: skip

HARMLESS = [
    "Version 10.0.19041.1 and v1.2.3.4, release 4.18.22.7, see section 12.2.10.3.",
    "ISBN 978-3-16-148410-0, ISBN-10: 0-306-40615-2, ISSN 2049-3630, doi 10.1000/182.",
    "At 2024-05-01 12:30:45, or 2024-05-01T12:30:45.123456+00:00, or 01/05/2024 10:20:30.",
    "Unix 1714567890, in ms 1714567890123, in us 1714567890123456; id 4111111111111112.",
    "Call f(1, 2, 3): 1-2-3, 100 200 300 400, 1,234,567.89 and 3.14159 26535 89793.",
    "logo@2x.png, @user, user@localhost, a@b, std::string::npos, ab::cd, 12:34:56:78.",
    "127.0.0.1, 10.1.2.3, 192.168.0.1, fe80:0000:0000:0000:0202:b3ff:fe1e:8329, 999.1.1.1.",
    "sk-learn-contrib-is-a-folder-of-projects, eyJub3Q.eyJqd3Q.x, AKIA is a prefix.",
    "DE00 1234 5678 9012 3456 78 has a wrong checksum; XX89 3704 0044 0532 0130 00 no country.",
    "Tables: 2019 2020 2021 2022, 12-34-56-78, 1990-2000, 2,000-3,000; pages 123-130.",
    "0000 0000 0000 0000, 1111-2222-3333-4444, 1.000.000.000 and 00-11-22-33-44-55.",
]


@pytest.mark.parametrize("kind", KINDS)
def test_all_constructed_examples_are_found_as_what_they_are(kind: str) -> None:
    texts = [f"Before {one}, after" for one in PERSONAL[kind]]
    found = find_personal(texts)
    assert found.kind.tolist() == [kind] * len(texts)
    spans = zip(texts, found.start, found.end, strict=True)
    assert [text[start:end] for text, start, end in spans] == PERSONAL[kind]
    assert mask_personal(texts, found) == [f"Before <{kind.upper()}>, after"] * len(texts)


def test_no_false_alarm() -> None:
    found = find_personal(HARMLESS, regions=("US", "DE", "GB"))
    alarms = [
        HARMLESS[d][s:e] for d, s, e in zip(found.document, found.start, found.end, strict=True)
    ]
    assert alarms == []


def test_private_addresses_by_choice() -> None:
    texts = ["127.0.0.1 and 192.168.0.1", "93.184.216.34", "http://10.1.2.3/x"]
    assert find_personal(texts).counts()["ip"].tolist() == [0, 1, 0]
    assert find_personal(texts, private_ips=True).counts()["ip"].tolist() == [2, 1, 1]


def test_national_phone_numbers_by_region() -> None:
    texts = ["Tel. 030 901820", "Tel. (030) 901820-55", "Tel. 020 7946 0958", "call 202-456-1111"]
    assert find_personal(texts).counts()["phone"].tolist() == [0, 0, 0, 1]
    british = find_personal(texts, regions=("GB",)).counts()["phone"]
    assert british.tolist() == [0, 0, 1, 0]


def test_capitals_after_an_iban_are_no_part_of_it() -> None:
    texts = ["IBAN DE89 3704 0044 0532 0130 00 BIC COBADEFFXXX", "DE89370400440532013000X"]
    found = find_personal(texts, kinds=["iban"])
    assert mask_personal(texts, found) == ["IBAN <IBAN> BIC COBADEFFXXX", texts[1]]


def test_a_token_without_algorithm_is_no_secret() -> None:
    assert find_personal([jwt({"typ": "x"})]).counts()["key"].tolist() == [0]


def test_counts_and_verdicts() -> None:
    texts = ["a@example.org b@example.org", "AKIAIOSFODNN7EXAMPLE", "nothing", "x@example.org"]
    found = find_personal(texts)
    assert found.counts()["email"].tolist() == [2, 0, 0, 1]
    assert found.verdict().reason.tolist() == ["", "", "", ""]
    verdict = found.verdict(["key"], max_findings=1)
    assert verdict.reason.tolist() == [
        "personal data: too many findings", "personal data: key", "", "",
    ]  # fmt: skip
    assert verdict.values["email"].tolist() == [2, 0, 0, 1]
    with pytest.raises(UnknownNameError, match="drop: unknown kind 'mail'.*'email'"):
        found.verdict(["mail"])


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.sampled_from([one for kind in PERSONAL.values() for one in kind] + HARMLESS), max_size=5
    ),
    st.text("ab é. \n", min_size=1, max_size=8),
)
def test_masking_takes_out_what_was_found_and_nothing_else(parts: list[str], glue: str) -> None:
    text = f" {glue} ".join(parts)
    found = find_personal([text])
    ends = [0, *found.end.tolist()]
    assert all(a <= b for a, b in zip(ends, found.start.tolist(), strict=False))
    rest = [text[a:b] for a, b in zip(ends, [*found.start.tolist(), len(text)], strict=True)]
    masks = [found.masks[kind] for kind in found.kind]
    whole = "".join(x for pair in zip(rest, [*masks, ""], strict=True) for x in pair)
    assert mask_personal([text], found) == [whole]


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(UnknownNameError, match="unknown kind 'emial', did you mean 'email'"):
        find_personal(["x"], kinds=["emial"])
    with pytest.raises(UnknownNameError, match="unknown region 'UK'"):
        find_personal(["x"], regions=["UK"])
    with pytest.raises(DataError, match="2 texts, but findings in 1"):
        mask_personal(["a", "b"], find_personal(["a"]))
    assert find_personal([]).counts()["email"].tolist() == []
