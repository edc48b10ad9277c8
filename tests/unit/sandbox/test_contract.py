import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.sandbox import ServedContract
from worker.sandbox.answers import Answer

ROWS = (b'{"id":"a"}', b'{"id":"b"}')


def test_the_default_layout() -> None:
    """A list stands under `orders`, followed by page, size and total."""
    assert ServedContract().render(ROWS, 1, 50, 7) == (
        b'{"orders":[{"id":"a"},{"id":"b"}],"page":1,"pageSize":50,"total":7}'
    )


def test_an_empty_page_is_an_empty_list() -> None:
    """A page without records keeps its frame."""
    assert ServedContract().render((), 9, 50, 7) == b'{"orders":[],"page":9,"pageSize":50,"total":7}'


def test_a_bare_list() -> None:
    """Without a wrapper key the answer is the list and nothing else."""
    contract = ServedContract(wrapper_key=None)
    assert json.loads(contract.render(ROWS, 1, 50, 7)) == [{"id": "a"}, {"id": "b"}]
    assert contract.render((), 1, 50, 7) == b"[]"


def test_other_keys() -> None:
    """Wrapper and total go by other names, or total and paging are left out."""
    assert json.loads(ServedContract(wrapper_key="data", total="count").render((), 1, 5, 7)) == {
        "data": [],
        "page": 1,
        "pageSize": 5,
        "count": 7,
    }
    assert ServedContract(total=None, paging=False).render((), 1, 5, 7) == b'{"orders":[]}'


def test_a_broken_list_is_valid_json() -> None:
    """`not_a_list` puts an object where the list belongs."""
    assert json.loads(ServedContract().render_not_a_list(1, 50))["orders"] == {}
    assert json.loads(ServedContract(wrapper_key=None).render_not_a_list(1, 50)) == {}


def test_page_parameters() -> None:
    """Absent parameters mean the first page of 50; a size above the cap is cut to it."""
    assert ServedContract().read_page({}) == (1, 50)
    assert ServedContract(page_base=0).read_page({}) == (0, 50)
    assert ServedContract(page_base=0).read_page({"page": "0", "pageSize": "7"}) == (0, 7)
    assert ServedContract(max_page_size=20).read_page({"pageSize": "100"}) == (1, 20)
    assert ServedContract(max_page_size=20).read_page({}) == (1, 20)


@pytest.mark.parametrize(
    ("query", "name", "attempted"),
    [
        ({"page": "0"}, "page", 0),
        ({"page": "-1"}, "page", "-1"),
        ({"page": "one"}, "page", "one"),
        ({"page": "1.5"}, "page", "1.5"),
        ({"page": "²"}, "page", "²"),
        ({"page": ""}, "page", ""),
        ({"page": "9" * 30}, "page", "9" * 30),
        ({"pageSize": "0"}, "pageSize", 0),
        ({"page": "1", "pageSize": "all"}, "pageSize", "all"),
    ],
)
def test_a_bad_parameter_is_400(query: dict[str, str], name: str, attempted: str | int) -> None:
    """The 400 has one error with a sentence, the parameter and the value that was sent."""
    answer = ServedContract().read_page(query)
    assert isinstance(answer, Answer)
    assert answer.status == 400
    (problem,) = json.loads(answer.body)["errors"]
    assert list(problem) == ["errorMessage", "propertyName", "attemptedValue"]
    assert (problem["propertyName"], problem["attemptedValue"]) == (name, attempted)


@given(
    total=st.integers(0, 300),
    size=st.integers(1, 50),
    base=st.sampled_from([0, 1]),
    descending=st.booleans(),
)
def test_pages_cover_everything_once(total: int, size: int, base: int, descending: bool) -> None:
    """Whatever total, size, base and direction: the pages in turn hold every position once, in order."""
    contract = ServedContract(page_base=base, descending=descending)
    positions = list(range(total))
    walked: list[int] = []
    for page in range(base, base + total // size + 2):
        start, stop = contract.bounds(page, size, total)
        rows = positions[start:stop]
        walked += rows[::-1] if descending else rows
    assert walked == (positions[::-1] if descending else positions)
