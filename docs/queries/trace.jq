# What happened in this run, from the tick to the commit?
#
# All lines of one run or trace, including those of libraries: pass its id with `jq --arg id ID`. The ids are in
# the run records and, with ORDERSYNC_EVENTS__TRACEPARENT=true, in each event: this shows where an event comes
# from.
def lines: inputs | fromjson? | select(.event != null);
lines | select(.trace_id == $id or .run_id == $id)
| [.timestamp, .level, .event, (.error // .reason // .message // "")] | @tsv
