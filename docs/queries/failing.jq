# What fails, since when, how often, and why?
#
# One line for each kind of failure of a resource: how often, first, last, and the last error. The log has the
# same failure once a minute; `repeated` counts those between, so the sum is right.
def lines: inputs | fromjson? | select(.event != null);
[lines | select(.event == "poll_failed")]
| group_by([.account, .resource, .error_code])[]
| [.[0].account, .[0].resource, .[0].error_code, (map(1 + .repeated) | add),
   .[0].timestamp, last.timestamp, last.error] | @tsv
