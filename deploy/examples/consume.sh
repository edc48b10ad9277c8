#!/bin/sh
# Reads the events of one stream through a consumer group with nothing but redis-cli (6.2 or newer), and runs a
# command for each: its data on standard input, the rest in variables. It is acknowledged when that ends well; when it
# does not, this ends as well, and begins with the same event when it is started again. The attempt number
# MAX_DELIVERIES (5) makes it a dead letter, and the next event comes. An event may come twice: the command has to do
# the same effect for the same ID once.
#
#   consume.sh redis://127.0.0.1:6379/0 'ordersync:{default}:stream:orders' warehouse worker-1 ./book-in
#
# With EVENTS=N in the environment it ends after N events. It starts redis-cli four times for each event: good for
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
dead=$(printf %s "$stream" | sed 's/:stream:/:dead:/')

cli() {
  case $url in
    unix://*) redis-cli -s "${url#unix://}" --raw "$@" ;;
    *) redis-cli -u "$url" --raw "$@" ;; # a password may come from REDISCLI_AUTH, where other users do not see it
  esac
}

# The value of a field of the entry in $csv; nothing if the entry is not there any more. Values may have many lines.
# Without a name, the names of all fields, a line each.
field() {
  printf '%s\n' "$csv" | LC_ALL=C awk -v name="$1" '
    function byte(hex) {
      return (index(digits, substr(hex, 1, 1)) - 1) * 16 + index(digits, substr(hex, 2, 1)) - 1
    }
    BEGIN { digits = "0123456789abcdef" }
    { text = text $0 }
    END {
      for (at = 1; at <= length(text); at++) {
        if (substr(text, at, 1) != "\"") continue
        value = ""
        for (at++; (char = substr(text, at, 1)) != "\"" && at <= length(text); at++) {
          if (char == "\\") {
            char = substr(text, ++at, 1)
            if (char == "x") { char = sprintf("%c", byte(substr(text, at + 1, 2))); at += 2 }
            else if (char == "n") char = "\n"
            else if (char == "r") char = "\r"
            else if (char == "t") char = "\t"
            else if (char == "a") char = "\a"
            else if (char == "b") char = "\b"
          }
          value = value char
        }
        if (++count % 2 == 0 && name == "") print value
        if (count > 2 && count % 2 == 1 && last == name) { printf "%s", value; exit }
        last = value
      }
    }'
}

# Writes a dead letter of the entry, which `ordersync dead` lists, replays and drops like those of the consumer kit. The
# entry is acknowledged afterwards: after a crash between the two there are two letters, never none.
bury() {
  set -- kind delivery reason "$1" subject "$SUBJECT" where "$entry" time "$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
    group "$group" consumer "$consumer" attempts "$attempts" trace ''
  for name in $(field ''); do
    value=$(field "$name"; printf .)
    [ "$name" = data ] || name=event.$name
    set -- "$@" "$name" "${value%.}"
  done
  cli XADD "$dead" '*' "$@" >/dev/null
}

cli XGROUP CREATE "$stream" "$group" 0 MKSTREAM >/dev/null # an error, which is no matter, if it is there

while [ "$left" -ne 0 ]; do
  # First what a consumer that is gone has left, and what is ours already, then what nobody has taken. Reading what is
  # ours counts an attempt.
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

  csv=$(cli --csv XRANGE "$stream" "$entry" "$entry")
  ID=$(field id) TYPE=$(field type) SUBJECT=$(field subject)
  if [ -n "$ID" ]; then # else it was removed from the stream after it had been taken
    export ID TYPE SUBJECT
    if [ "$(field dataencoding)" = gzip ]; then # its bytes do not come whole out of a shell
      echo "the data is compressed: use \`ordersync consume\`, or unset ORDERSYNC_EVENTS__COMPRESS_ABOVE" >&2
      exit 1
    fi
    if { field data && echo; } | "$@"; then
      left=$((left - 1))
    else
      code=$?
      attempts=$(cli XPENDING "$stream" "$group" "$entry" "$entry" 1 | sed -n 4p)
      [ "$attempts" -ge "${MAX_DELIVERIES:-5}" ] || exit $code
      bury "exit code $code"
    fi
  fi
  cli XACK "$stream" "$group" "$entry" >/dev/null
done
