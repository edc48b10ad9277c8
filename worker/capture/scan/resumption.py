"""Whether a full scan that is under way is resumed or restarted. No I/O.

A full scan is a chain of slices, so it is resumed many times. Resumed late, or under other settings, it would end with
a mixture of two reads. Then it is restarted instead, but only once before a scan has ended: a list that is interrupted
again and again, or that two workers read with different settings, must come to its end as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xxhash import xxh3_64_hexdigest

if TYPE_CHECKING:
    from worker.capture.context import ReadOptions
    from worker.capture.scan.strategy import ScanStep
    from worker.capture.state.full_scan import FullScanProgress
    from worker.ordermesh.contract.profile import ContractProfile

MIXED = "mixed"
"""The plan of a scan whose parts were read under different plans."""
MIXED_PARTS = (
    "parts of the list were read with different settings or by different contracts; compare the workers"
)
MAX_AHEAD = 5.0
"""Seconds that a scan may have begun in the future: the clocks of two workers differ a little."""


def plan_of(profile: ContractProfile, base_url: str, step: ScanStep, options: ReadOptions) -> str:
    """Return a hash of what a scan depends on, but its page size: the contract, the order, and the settings."""
    search, scope = options.resource.search, options.scope
    listing = profile.list_of(search)
    parts = (
        base_url,
        profile.route(search),
        (listing.page_parameter, listing.size_parameter, listing.first_page, listing.wrapper),
        (listing.next_in, listing.next_parameter),
        (step.seeks, step.since_parameter, sorted(step.query.items())),
        (sorted(scope.merchants), sorted(scope.statuses)),
        sorted(options.ignored),
        options.privacy.tag if options.privacy else b"",
    )
    return xxh3_64_hexdigest(repr(parts).encode())


def restart_reason(
    scan: FullScanProgress, plan: str, page_size: int, now: float, interval: float, *, is_first: bool = False
) -> str:
    """Return why the scan that is under way has to start over, in words; "" if it is resumed.

    A scan that has waited for longer than an interval starts over, unless it was read for even longer: then the part
    that was read costs more than the wait. A first one does not: where many first scans share the places of the
    workers, each gives its place up to those that never began and waits for them; to start over, all would wait longer.

    Args:
        scan: The scan.
        plan: The result of `plan_of` now.
        page_size: Records to request per page now.
        now: Seconds since 1970.
        interval: Seconds between two polls.
        is_first: No full scan of the list has ended.

    """
    if scan.started > now + MAX_AHEAD:
        return f"it began {scan.started - now:.0f} s in the future, so a clock was put back"
    if scan.restarted:
        return ""
    if scan.plan != plan:
        return "the contract or a setting has changed since it began"
    if scan.size != page_size:
        return f"the page size has changed from {scan.size} to {page_size} since it began"
    waited = now - scan.started - scan.spent
    if waited > max(interval, scan.spent) and not is_first:
        return f"it was interrupted for {waited:.0f} s"
    return ""


def plan_when_resumed(scan: FullScanProgress, plan: str) -> str:
    """Return the plan of a scan that is resumed under `plan`."""
    return plan if scan.plan == plan else MIXED
