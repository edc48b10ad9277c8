# Which records and events could not be processed?
#
# Records that could not be read, and events that a consumer gave up. They are among the dead letters:
# `ordersync dead list`.
def lines: inputs | fromjson? | select(.event != null);
lines | select(.event == "record_unreadable" or .event == "delivery_dead")
| [.timestamp, .event, .account, .resource, (.subject // "page \(.page)"), (.error // .reason)] | @tsv
