"""Permissions in the sandbox: what a token may do, what a login shows of it, and what each operation needs."""

from typing import Any

import httpx
import pytest

from tests.support.sandbox_api import SandboxApi
from worker.ordermesh.contract.operations import OPERATIONS
from worker.sandbox import PASSWORD, USERNAME, Permissions, PermissionsError, SandboxServer
from worker.sandbox.permissions import RESOURCES, VERBS, permission


def refuse(server: SandboxServer) -> dict[str, int]:
    """The status of every operation for a client with this token, on things that are not there."""
    statuses = {}
    with SandboxApi(server) as api:
        for operation in OPERATIONS.values():
            if operation.service == "user":
                continue
            path = dict.fromkeys(operation.path_parameters, "nobody")
            body: dict[str, Any] | None = None if operation.method in ("GET", "DELETE") else {}
            statuses[operation.key] = api.send(operation.key, body, query=None, **path).status_code
    return statuses


def test_a_token_that_may_nothing_is_refused_everywhere() -> None:
    """Without permissions every operation but the logins is 403; with all of them none is."""
    with SandboxServer(orders=3, permissions=Permissions.only({})) as server:
        assert set(refuse(server).values()) == {403}
        server.auth.permit(Permissions())
        assert 403 not in refuse(server).values()


def test_permissions_are_per_resource_and_verb() -> None:
    """What is granted is served, all else refused, for tokens that were handed out before too."""
    with SandboxServer(orders=3) as server, SandboxApi(server) as api:
        server.auth.permit({"order": {"get"}, "audit": {"get"}})
        order_id = server.store.ids()[0]
        assert api.do("orders.search")["total"] == 3
        assert api.do("orders.audit_logs", orderId=order_id)["auditLogs"]
        error = api.refused(403, "orders.update", {"externalId": "x"}, orderId=order_id)
        assert error["errorMessage"] == "The token has no permission for 'Update order data.'."
        assert api.refused(403, "shipments.search")
        assert api.refused(403, "orders.create", {"nothing": "good"})
        assert len(server.store) == 3


def test_the_login_answer_shows_the_permissions() -> None:
    """The roles of a user session hold every resource with the verbs that are granted."""
    denied = Permissions().without("order:create", "note:delete", "note:update")
    with SandboxServer(orders=1, permissions=denied) as server:
        url = server.url + OPERATIONS["users.login"].path
        (role,) = httpx.post(url, json={"username": USERNAME, "password": PASSWORD}).json()["roles"]
    shown = {
        each["resourceName"]: [verb["name"] for verb in each["associatedPermissions"]]
        for each in role["permissionSet"]
    }
    assert list(shown) == list(RESOURCES)
    assert shown["order"] == ["get", "update", "delete"]
    assert shown["note"] == ["get", "create"]
    assert shown["shipment"] == list(VERBS)
    assert all(
        [verb["name"] for verb in each["availablePermissions"]] == list(VERBS)
        for each in role["permissionSet"]
    )


@pytest.mark.parametrize(
    ("key", "needed"),
    [
        ("clients.token", None),
        ("orders.search", ("order", "get")),
        ("orders.create_many", ("order", "create")),
        ("orders.cancel", ("order", "update")),
        ("orders.refund", ("order", "update")),
        ("order_items.update", ("orderItem", "update")),
        ("order_items.audit_logs", ("audit", "get")),
        ("shipments.message_audit_logs", ("audit", "get")),
        ("shipments.create", ("shipment", "create")),
        ("shipments.reroute_many", ("shipment", "update")),
        ("packages.delete", ("package", "delete")),
        ("merchant_catalogs.search_effective_variants", ("merchantCatalog", "get")),
        ("products.update_many", ("product", "update")),
    ],
)
def test_what_an_operation_needs(key: str, needed: tuple[str, str] | None) -> None:
    """A POST creates only where it says so: searches need `get`, other steps `update`, audit logs `audit`."""
    assert permission(OPERATIONS[key]) == needed


@pytest.mark.parametrize("wrong", ["order", "order:", "order:eat", "nothing:get", ""])
def test_an_unknown_permission_is_an_error(wrong: str) -> None:
    """A permission that is none is told with those there are."""
    with pytest.raises(PermissionsError, match=r"allowed: RESOURCE:VERB with one of order, .* delete"):
        Permissions().without(wrong)
