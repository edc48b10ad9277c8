import re
from dataclasses import fields

import pytest

from worker.cli.sandbox import CONTRACT_KEYS
from worker.sandbox import PLURAL, ContractError, ServedContract, parse_contract


def test_nothing_given_is_the_default() -> None:
    """Without pairs the contract is the default one, whose lists have the plural of their operation."""
    assert parse_contract([]) == ServedContract()
    assert parse_contract(["wrapper_key=*"]).wrapper_key == PLURAL


def test_every_field_can_be_given() -> None:
    """Each field is read as what it is; `moved` collects one operation at a time."""
    pairs = [
        "wrapper_key=none",
        "page_base=0",
        "default_page_size=10",
        "max_page_size=20",
        "refuse_large=true",
        "lenient_pages=yes",
        "result_cap=1000",
        "refuse_deep=true",
        "index_lag=2.5",
        "ignore_page=1",
        "total=count",
        "total_extra=4000",
        "paging=false",
        "descending=True",
        "since_honoured=true",
        "choices_honoured=false",
        "sort_honoured=true",
        "prefixless=order, note",
        "moved.orders.get=/order/v1/one/{id}",
        "moved.notes.search=/note/v1/all",
        "login_case=snake",
        "audit_shape=bare",
        "audit_page_size=30",
        "latency=0.5",
        "gzip=true",
    ]
    assert parse_contract(pairs) == ServedContract(
        wrapper_key=None,
        page_base=0,
        default_page_size=10,
        max_page_size=20,
        refuse_large=True,
        lenient_pages=True,
        result_cap=1000,
        refuse_deep=True,
        index_lag=2.5,
        ignore_page=True,
        total="count",
        total_extra=4000,
        paging=False,
        descending=True,
        since_honoured=True,
        choices_honoured=False,
        sort_honoured=True,
        prefixless=("order", "note"),
        moved={"orders.get": "/order/v1/one/{id}", "notes.search": "/note/v1/all"},
        login_case="snake",
        audit_shape="bare",
        audit_page_size=30,
        latency=0.5,
        gzip=True,
    )


def test_the_last_of_a_key_counts() -> None:
    """A key given twice has the later value."""
    assert parse_contract(["page_base=0", "page_base=1", "max_page_size=none"]) == ServedContract()


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("colour=red", "contract: key is 'colour'; allowed: KEY=VALUE with one of wrapper_key, page_base,"),
        ("page_base", "contract: key is 'page_base'; allowed: KEY=VALUE with one of"),
        ("=1", "contract: key is ''; allowed:"),
        ("page_base=2", "contract: page_base is 2; allowed: 0 or 1"),
        ("page_base=zero", "contract: page_base is 'zero'; allowed: a whole number"),
        ("max_page_size=many", "contract: max_page_size is 'many'; allowed: a whole number, or none"),
        ("max_page_size=0", "contract: max_page_size is 0; allowed: a whole number from 1, or none"),
        ("audit_page_size=0", "contract: audit_page_size is 0; allowed: a whole number from 1, or none"),
        ("default_page_size=0", "contract: default_page_size is 0; allowed: a whole number from 1"),
        ("gzip=maybe", "contract: gzip is 'maybe'; allowed: true or false"),
        ("latency=soon", "contract: latency is 'soon'; allowed: a number"),
        ("latency=-1", "contract: latency is -1.0; allowed: seconds from 0 to 60"),
        ("latency=nan", "contract: latency is nan; allowed: seconds from 0 to 60"),
        ("prefixless=orders", "contract: prefixless is ('orders',); allowed: of user, order, note"),
        ("login_case=Camel", "contract: login_case is 'Camel'; allowed: one of either, camel, snake"),
        ("audit_shape=flat", "contract: audit_shape is 'flat'; allowed: one of wrapped, bare"),
        ("moved.nothing=/x", "contract: moved is 'nothing'; allowed: a key of the table of operations:"),
        ("moved.orders.get=/x", "contract: moved.orders.get is '/x'; allowed: a path from the root with 1 {"),
        (
            "moved.orders.search=x",
            "contract: moved.orders.search is 'x'; allowed: a path from the root with 0",
        ),
    ],
)
def test_what_is_not_allowed_is_told(pair: str, message: str) -> None:
    """A bad key or value is named, with what is allowed instead."""
    with pytest.raises(ContractError, match=re.escape(message)):
        parse_contract([pair])


def test_the_help_names_every_key() -> None:
    """What `ordersync sandbox --help` names is what there is."""
    assert {*CONTRACT_KEYS, "moved"} == {each.name for each in fields(ServedContract)}
