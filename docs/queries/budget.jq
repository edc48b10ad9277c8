# What is the request budget spent on?
#
# Requests, how many of them were retries, seconds spent waiting, and requests for each event published.
def lines: inputs | fromjson? | select(.event != null);
[lines | select(.event == "poll_done" or .event == "poll_failed")]
| group_by([.account, .resource])[]
| (map(.requests) | add) as $sent | (map(.snapshot + .created + .updated + .deleted + .recorded) | add) as $out
| [.[0].account, .[0].resource, $sent, (map(.retries) | add), (map(.budget_wait_s) | add | round),
   (if $out > 0 then ($sent / $out * 100 | round / 100) else "-" end)] | @tsv
