"""Versions and ranges: the order that SemVer fixes, and the ranges that npm and Cargo write."""

import contextlib
import itertools
import json
import random
import subprocess

import pytest
from hypothesis import given, strategies as st
from node_modules import installed

from frys_runtime.ranges import Range, Version

identifiers = st.from_regex(r"(0|[1-9][0-9]{0,3}|[0-9]{0,2}[A-Za-z-][0-9A-Za-z-]{0,3})", fullmatch=True)
small = st.integers(0, 3)
versions = st.builds(
    lambda numbers, pre: Version.parse(".".join(map(str, numbers)) + ("-" + ".".join(pre) if pre else "")),
    st.tuples(small, small, small),
    st.lists(identifiers, max_size=3),
)
bounds = st.builds(
    lambda op, numbers: op + ".".join(map(str, numbers)),
    st.sampled_from(("", "^", "~", ">", ">=", "<=", "=")),
    st.lists(small, min_size=1, max_size=3),
)


def test_precedence_is_the_one_of_semver() -> None:
    """The chain of section 11.4, and numbers as numbers."""
    chain = (
        "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0 "
        "1.0.9 1.0.10 1.9.0 1.10.0 2.0.0"
    )
    parsed = [Version.parse(text) for text in chain.split()]
    for lower, higher in itertools.pairwise(parsed):
        assert lower < higher
    parsed.reverse()
    assert " ".join(map(str, sorted(parsed))) == chain


def test_build_metadata_has_no_precedence() -> None:
    """Two builds of one version are equal, match alike, and keep their text."""
    one, other = Version.parse("1.0.0+a"), Version.parse("1.0.0+b.01")
    assert one == other
    assert hash(one) == hash(other)
    assert str(other) == "1.0.0+b.01"
    assert Range.parse("=1.0.0+c").matches(one)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "1",
            "1.0",
            "v1.0.0",
            "01.0.0",
            "1.0.0-",
            "1.0.0-01",
            "1.0.0-a..b",
            "1.0.0+",
            "1.0.0 ",
            "1.0.0\n",
        ),
        *("-1.0.0", "1.0.0.0", "1٢.0.0", "1.0.0-ä", "1.0.0-" + "a" * 128),
    ],
)
def test_what_is_no_version_is_refused(text: str) -> None:
    """Each is outside of SemVer's grammar, or too long."""
    with pytest.raises(ValueError, match="is no version"):
        Version.parse(text)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("^1.2.3", "1.2.3 1.99.0", "1.2.2 2.0.0 2.0.0-a 1.3.0-a 1.2.3-a"),
        ("^0.2.3", "0.2.3 0.2.9", "0.2.2 0.3.0"),
        ("^0.0.3", "0.0.3", "0.0.2 0.0.4"),
        ("^0.0", "0.0.0 0.0.9", "0.1.0"),
        ("^0.x", "0.0.0 0.9.9", "1.0.0"),
        ("^1.x", "1.0.0 1.9.0", "0.9.9 2.0.0"),
        ("^0.1", "0.1.0 0.1.7", "0.0.9 0.2.0"),
        ("~1.2.3", "1.2.3 1.2.99", "1.2.2 1.3.0"),
        ("~1.2", "1.2.0 1.2.99", "1.3.0"),
        ("~1", "1.0.0 1.99.0", "2.0.0"),
        ("~0.0.1", "0.0.1 0.0.9", "0.1.0"),
        ("1.x", "1.0.0 1.2.3", "0.9.0 2.0.0"),
        ("1.2.*", "1.2.0", "1.3.0"),
        ("1", "1.0.0 1.2.3", "2.0.0"),
        (">=1.2 <2", "1.2.0 1.99.99", "1.1.9 2.0.0 2.0.0-rc.1"),
        (">= 1.2,<2", "1.2.0", "2.0.0"),
        (">1.2", "1.3.0", "1.2.9"),
        ("<=1.2", "1.2.9 0.0.0", "1.3.0"),
        (">1", "2.0.0", "1.9.9"),
        ("<1.2", "1.1.9", "1.2.0 1.2.0-a"),
        (">1.2.3", "1.2.4", "1.2.3"),
        ("=1.2.3", "1.2.3 1.2.3+build", "1.2.4 1.2.3-a"),
        ("1.2.3", "1.2.3", "1.2.4"),
        ("*", "0.0.0 9.9.9", "1.0.0-a"),
        ("", "0.0.0", "1.0.0-a"),
        ("^1.2 || ^3", "1.2.0 3.1.0", "2.0.0 4.0.0"),
        ("^2.0.0-beta", "2.0.0-beta.1 2.0.0-rc 2.0.0 2.1.0", "2.0.0-alpha 2.1.0-beta.1 3.0.0-beta"),
        (">=1.0.0 <2.0.0-beta", "1.5.0 2.0.0-alpha", "2.0.0-beta 2.0.0 1.5.0-a"),
        ("=1.2.3-rc.1", "1.2.3-rc.1", "1.2.3 1.2.3-rc.2"),
    ],
)
def test_each_form_takes_what_the_table_says(text: str, inside: str, outside: str) -> None:
    """The forms of the module's table, at both of their edges, and with pre-releases."""
    accepted = Range.parse(text)
    assert [one for one in inside.split() if not accepted.matches(Version.parse(one))] == []
    assert [one for one in outside.split() if accepted.matches(Version.parse(one))] == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("latest", "none of the forms"),
        ("^", "none of the forms"),
        ("=>1.2", "none of the forms"),
        ("1.2.3.4", "none of the forms"),
        ("^1.2beta", "none of the forms"),
        ("1.0.0 - 2.0.0", "none of the forms"),
        ("^01.2", "none of the forms"),
        ("1.x-beta", "none of the forms"),
        ("^1.2.x-beta", "no one version"),
        (">*", "matches no version"),
        ("1.x.3", "behind one that is left open"),
        (">=2 <1", "exclude each other"),
        (">=1.2.0-alpha <1.2", "exclude each other"),
        ("=1.0.0 =1.0.1", "exclude each other"),
        ("^1 || >1.0.0 <1.0.0", "exclude each other"),
        ("^1 " * 100, "at most 256 characters"),
    ],
)
def test_what_is_no_range_is_refused(text: str, reason: str) -> None:
    """Each with what is wrong; a range that nothing can match is a mistake, too."""
    with pytest.raises(ValueError, match=reason):
        Range.parse(text)


def test_the_best_version_is_the_highest_that_fits() -> None:
    """Order of the candidates does not matter, and nothing is found where nothing fits."""
    candidates = [Version.parse(text) for text in ("1.9.3", "2.0.0", "1.10.0", "1.11.0-rc.1")]
    assert str(Range.parse("^1.2").best(candidates)) == "1.10.0"
    assert Range.parse("^3").best(candidates) is None


@pytest.mark.needs_npm
def test_ranges_mean_what_they_mean_to_npm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Thousands of pairs: a range that is read here takes the versions that npm's own package takes."""
    chance = random.Random(5)

    def pre(share: float) -> str:
        return (
            "-" + chance.choice(("a", "b", "a.1", "0", "1", "a.b", "rc.1")) if chance.random() < share else ""
        )

    def bound() -> str:
        op = chance.choice(("", "^", "~", ">", ">=", "<=", "<", "="))
        numbers = [str(chance.randint(0, 3)) for _ in range(chance.randint(1, 3))]
        return op + ".".join(numbers) + (pre(0.3) if len(numbers) == 3 else ".x" * (chance.random() < 0.1))

    cases = []
    for _ in range(8000):
        together = [
            " ".join(bound() for _ in range(chance.randint(1, 2))) for _ in range(chance.randint(1, 2))
        ]
        version = ".".join(str(chance.randint(0, 3)) for _ in range(3)) + pre(0.4)
        with contextlib.suppress(
            ValueError
        ):  # bounds that exclude each other: npm reads them, and takes nothing
            accepted = Range.parse(" || ".join(together)).matches(Version.parse(version))
            cases.append([" || ".join(together), version, accepted])
    code = (
        "const {satisfies} = require('semver'); const cases = JSON.parse(require('fs').readFileSync(0));"
        "const wrong = cases.filter(([range, version, ours]) => satisfies(version, range) !== ours);"
        "console.log(JSON.stringify(wrong))"
    )
    folder = installed(tmp_path_factory.getbasetemp()).parent
    done = subprocess.run(
        ["node", "-e", code], input=json.dumps(cases), cwd=folder, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []
    assert 1000 < sum(accepted for *_, accepted in cases) < len(cases) - 1000


@given(versions, versions)
def test_versions_have_one_order(one: Version, other: Version) -> None:
    """Exactly one of less, equal and greater holds, and text and back changes nothing."""
    assert (one < other) + (one == other) + (one > other) == 1
    assert (one == other) == (hash(one) == hash(other))
    assert Version.parse(str(one)) == one


@given(versions)
def test_caret_and_tilde_are_the_bounds_that_they_stand_for(version: Version) -> None:
    """Releases only: ^ and ~ agree with the comparisons that the table writes beside them."""
    major, minor, patch = version.numbers
    for base in ((1, 1, 1), (0, 1, 1), (0, 0, 1), (2, 0, 0)):
        text = ".".join(map(str, base))
        end = next(tuple(base[:n]) + (base[n] + 1,) + (0,) * (2 - n) for n in range(3) if base[n] or n == 2)
        release = Version(major, minor, patch)
        assert Range.parse(f"^{text}").matches(release) == (base <= (major, minor, patch) < end)
        end = (base[0], base[1] + 1, 0)
        assert Range.parse(f"~{text}").matches(release) == (base <= (major, minor, patch) < end)


@given(st.lists(bounds, min_size=1, max_size=3), versions)
def test_together_means_each_and_bars_mean_any(texts: list[str], version: Version) -> None:
    """For releases: all of what stands side by side, any of what bars part."""
    release = Version(*version.numbers)
    each = [Range.parse(text).matches(release) for text in texts]
    assert Range.parse(" || ".join(texts)).matches(release) == any(each)
    try:
        together = Range.parse(" ".join(texts)).matches(release)
    except ValueError:  # the bounds exclude each other
        together = False
    assert together == all(each)


@given(st.text(alphabet="0123456789.xX*^~<>=|-+ab ,\n", max_size=40))
def test_any_text_is_a_range_or_a_sentence(text: str) -> None:
    """Parsing ends in a range or in ValueError, and a range can be read again from its text."""
    try:
        accepted = Range.parse(text)
    except ValueError:
        return
    assert Range.parse(str(accepted)) == accepted
