# When did polling pause, for whom, and for how long?
#
# Each pause with its cause, and the time at which polling resumed; the consumer group that had to catch up, or
# who paused polling.
def lines: inputs | fromjson? | select(.event != null);
[lines | select(.event | IN("backpressure_on", "backpressure_off", "polling_paused", "polling_resumed"))]
| group_by([.account, .resource])[] | .[]
| [.timestamp, .account, .resource, .event, (.group // .by // ""), .unread, (.cause // .reason // "")] | @tsv
