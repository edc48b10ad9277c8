# When was Redis, the gateway or the login unavailable?
#
# What the worker logged of each outage, in order, until it was over: `worker_started`, `redis_has_room`, or a
# `poll_done`.
def lines: inputs | fromjson? | select(.event != null);
lines
| select((.event | IN("waiting_for_redis", "queue_lost", "worker_started", "redis_full", "redis_has_room",
                      "login_failed", "logged_in"))
         or (.event == "poll_failed"
             and (.error_code | IN("gateway_unreachable", "login_rejected", "token_rejected",
                                   "redis_unavailable", "server_error"))))
| [.timestamp, .event, (.account // ""), (.error // "")] | @tsv
