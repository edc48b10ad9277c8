"""The HTML of the page: sections that are sent again when they change, and the pages around them. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker import __version__
from worker.admin.verdict import command_line, verdict
from worker.web import view
from worker.web.words import environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.admin.group_lag import GroupLag
    from worker.admin.overview import Overview
    from worker.admin.timeline import Timeline
    from worker.web.feed import Snapshot

SECTIONS = ("verdict", "resources", "groups", "letters", "coverage", "workers", "resyncs", "history")


class Pages:
    """Renders the pages."""

    def __init__(self) -> None:
        env = environment()
        self._sections = {name: env.get_template(f"{name}.html") for name in SECTIONS}
        self._page, self._timeline = env.get_template("page.html"), env.get_template("timeline.html")

    def sections(self, snapshot: Snapshot, lag: GroupLag) -> dict[str, str]:
        """Return the HTML of each section."""
        facts = _facts(snapshot, lag)
        return {name: template.render(facts) for name, template in self._sections.items()}

    def page(self, snapshot: Snapshot, lag: GroupLag) -> str:
        """Return the page with all sections."""
        return self._page.render(**_facts(snapshot, lag), **_frame(snapshot.overview), sections=SECTIONS)

    def timeline(
        self,
        overview: Overview | None,
        name: str,
        account: str,
        *,
        found: Timeline | None = None,
        error: str = "",
    ) -> str:
        """Return the page with the timeline of an order, or why there is none.

        Args:
            overview: What was collected last, for the names of the accounts.
            name: The id that was searched for.
            account: The account that was searched.
            found: The timeline.
            error: Why there is none.

        """
        entries = view.moments(found.entries) if found else []
        words = ["timeline", name]
        return self._timeline.render(
            **_frame(overview),
            name=name,
            account=account,
            order=found.order["id"] if found else "",
            entries=entries,
            lanes=view.LANES,
            remarks=found.remarks if found else [],
            error=error,
            command=command_line(account, words, name_account=bool(account)) if name else "",
        )


def _facts(snapshot: Snapshot, lag: GroupLag) -> dict[str, Any]:
    overview = snapshot.overview
    health, words = _verdict(snapshot)
    facts: dict[str, Any] = {
        "health": health,
        "verdict": words,
        "at": _at(snapshot),
        "stale": bool(snapshot.error),
    }
    if overview is None:
        return facts | {
            "resources": [], "groups": [], "accounts": [], "workers": [], "resyncs": [], "legend": [], "many": False,
        }  # fmt: skip
    many = len(overview.accounts) > 1
    return facts | {
        "many": many,
        "resources": view.resources(overview, name_account=many),
        "groups": view.groups(overview, lag, name_account=many),
        "accounts": [
            {
                "name": account.name,
                "letters": view.letters(account, name_account=many),
                "more_letters": max(0, len(account.letters) - view.MOST_REASONS),
                "coverage": [view.coverage(report) for report in account.coverage],
                "unprovable": account.unprovable,
                "unreadable": account.unreadable,
                "history": account.history,
                "now": overview.at,
            }
            for account in overview.accounts
        ],
        "workers": view.workers(overview),
        "resyncs": [resync for row in overview.rows for resync in row["resyncs"]],
        "legend": view.LEGEND,
    }


def _verdict(snapshot: Snapshot) -> tuple[str, str]:
    """Return the worst health, and the verdict in one line."""
    if snapshot.overview is None:
        return "failing", f"Nothing can be shown: {snapshot.error or 'nothing was collected yet'}."
    if snapshot.error:
        return "failing", f"Redis cannot be read: {snapshot.error}. What is shown is from before."
    health, words = verdict(snapshot.overview.rows)
    if snapshot.overview.survey is not None:
        words = " ".join((*snapshot.overview.survey.lines(), words))
    return health.value, words


def _at(snapshot: Snapshot) -> float | None:
    return snapshot.overview.at if snapshot.overview else None


def _frame(overview: Overview | None) -> dict[str, Any]:
    names: Sequence[str] = [account.name for account in overview.accounts] if overview else []
    return {"version": __version__, "account_names": names}
