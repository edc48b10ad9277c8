"""Names that gateways use for the continuation of a list: none is documented, so the probe and the import try them."""

from __future__ import annotations

HEADER = "header:"
"""Before the name of a header, where the contract may also name a field or a query parameter."""
RESERVED_HEADERS = frozenset(
    {"authorization", "host", "content-type", "content-length", "transfer-encoding", "connection", "cookie"}
)
"""Headers that never take a continuation."""
LINK_FIELDS = ("nextLink", "@odata.nextLink", "next", "nextUrl", "next_url", "nextPageUrl", "next_page_url")
"""Fields of a response with the address of the next page."""
TOKEN_FIELDS = (
    "continuationToken",
    "nextContinuationToken",
    "continuation",
    "nextPageToken",
    "next_page_token",
    "nextToken",
    "nextCursor",
    "next_cursor",
    "cursor",
    "endCursor",
    "after",
)
"""Fields of a response with a token that leads to the next page."""
CURSOR_FIELDS = frozenset({"cursor", "endCursor", "after"})
"""Those among them that a response may also have on its last page."""
OUTER_FIELDS = (
    "links",
    "_links",
    "paging",
    "pagination",
    "meta",
    "page",
    "pageInfo",
    "cursors",
    "paging.cursors",
)
"""Objects in a response that may contain these fields."""
HEADERS = ("Link", "x-ms-continuation", "x-ms-continuationtoken", "x-continuation-token", "x-next-token")
"""Headers of a response with such an address or token."""
TOKEN_PARAMETERS = (
    "continuationToken",
    "continuation",
    "pageToken",
    "page_token",
    "nextToken",
    "cursor",
    "after",
    "token",
)
"""Query parameters that take such a token."""
