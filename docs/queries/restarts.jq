# Who ended the worker, did it end in order, and was anything stuck?
#
# Starts and ends. A start without an end before it was a crash or SIGKILL; `worker_hangs` names what was
# stuck, since when, and where in the code.
def lines: inputs | fromjson? | select(.event != null);
lines
| select(.event | IN("worker_started", "stopping", "stopped", "stopped_at_once", "jobs_cut_short",
                     "worker_failed", "worker_hangs"))
| [.timestamp, .event, (.signal // ""), ((.stuck // []) | join("; ")), (.stuck_since // ""), (.stack // "")]
| @tsv
