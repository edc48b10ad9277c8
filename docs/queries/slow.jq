# Which polls take long, and what do they wait for?
#
# The ten longest polls: seconds, seconds of them spent waiting for the budget, requests, retries, pages, and
# the run. If `budget_wait_s` is most of it, the budget is too small (ORDERSYNC_API__REQUESTS_PER_SECOND); if
# `retries` is high, the gateway is in trouble; otherwise there are many pages.
def lines: inputs | fromjson? | select(.event != null);
[lines | select(.event == "poll_done" or .event == "poll_failed")]
| sort_by(-.duration_s)[:10][]
| [.duration_s, .budget_wait_s, .requests, .retries, .pages, .account, .resource, .run_id] | @tsv
