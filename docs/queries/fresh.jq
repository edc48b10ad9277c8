# Is everything being read, and when was each resource last read completely?
#
# The last complete poll of each resource: time, account, resource, age in seconds of what it may have missed. A
# resource that is missing or whose time is old is in trouble: the next question, `failing`, says why.
def lines: inputs | fromjson? | select(.event != null);
[lines | select(.event == "poll_done" and .outcome == "complete" and .freshness_s != null)]
| group_by([.account, .resource])[] | last
| [.timestamp, .account, .resource, .freshness_s] | @tsv
