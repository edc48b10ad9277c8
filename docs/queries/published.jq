# How many events were published, and of what kind?
#
# For each hour and resource: snapshot, created, updated, deleted, recorded. LogQL counts one of them at a time.
def lines: inputs | fromjson? | select(.event != null);
[lines | select(.event == "poll_done" or .event == "poll_failed")]
| group_by([.timestamp[:13], .account, .resource])[]
| [.[0].timestamp[:13], .[0].account, .[0].resource, (map(.snapshot) | add), (map(.created) | add),
   (map(.updated) | add), (map(.deleted) | add), (map(.recorded) | add)] | @tsv
