#!/bin/sh
# Reads the events of one stream through a consumer group with nothing but redis-cli (6.2 or newer), and runs a
# command for each: its data on standard input, the rest in variables. It is acknowledged when that ends well; when it
# does not, this ends as well, and begins with the same event when it is started again.
#
#   consume.sh redis://127.0.0.1:6379/0 'ordersync:{default}:stream:orders' warehouse worker-1 ./book-in
#
# With EVENTS=N in the environment it ends after N events. It starts redis-cli eight times for each event: good for
# some dozen a second. For more, the same in one line, with retries, dead letters and order for each entity:
#
#   ordersync consume --group warehouse orders -- sh -c 'cat >> events.jsonl'
set -eu

if [ $# -lt 5 ]; then
  echo "usage: consume.sh URL STREAM GROUP CONSUMER COMMAND [ARG]..." >&2
  exit 2
fi
url=$1 stream=$2 group=$3 consumer=$4
shift 4
claim_after=${CLAIM_AFTER:-60000} # ms; more than one event may take
left=${EVENTS:--1}

cli() {
  redis-cli -u "$url" --raw "$@"
}

# The value of a field of an entry; nothing if the entry is not there any more. Values may have many lines.
field() {
  cli EVAL "local entry = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
    for i = 1, entry and #entry[2] or 0, 2 do
      if entry[2][i] == ARGV[2] then return entry[2][i + 1] end
    end" 1 "$stream" "$1" "$2"
}

cli XGROUP CREATE "$stream" "$group" 0 MKSTREAM >/dev/null # an error, which is no matter, if it is there

while [ "$left" -ne 0 ]; do
  # First what a consumer that is gone has left, and what is ours already, then what nobody has taken.
  cli XAUTOCLAIM "$stream" "$group" "$consumer" "$claim_after" 0 COUNT 10 JUSTID >/dev/null
  entry=$(cli XREADGROUP GROUP "$group" "$consumer" COUNT 1 STREAMS "$stream" 0 | sed -n 2p)
  if [ -z "$entry" ]; then
    answer=$(cli XREADGROUP GROUP "$group" "$consumer" COUNT 1 BLOCK 1000 STREAMS "$stream" '>')
    entry=$(printf '%s\n' "$answer" | sed -n 2p)
    if [ -z "$entry" ]; then
      case $answer in
        '') continue ;; # nothing new
        *NOGROUP* | *UNBLOCKED*) # Redis has lost the group: it begins again with the first event that is kept
          echo "redis: $answer" >&2
          cli XGROUP CREATE "$stream" "$group" 0 MKSTREAM >/dev/null
          continue
          ;;
        *) echo "redis: $answer" >&2 && exit 1 ;;
      esac
    fi
  fi

  ID=$(field "$entry" id) TYPE=$(field "$entry" type) SUBJECT=$(field "$entry" subject)
  if [ -n "$ID" ]; then # else it was removed from the stream after it had been taken
    export ID TYPE SUBJECT
    if [ "$(field "$entry" dataencoding)" = gzip ]; then # its bytes do not come whole out of a shell
      echo "the data is compressed: use \`ordersync consume\`, or unset ORDERSYNC_EVENTS__COMPRESS_ABOVE" >&2
      exit 1
    fi
    field "$entry" data | "$@"
    left=$((left - 1))
  fi
  cli XACK "$stream" "$group" "$entry" >/dev/null
done
