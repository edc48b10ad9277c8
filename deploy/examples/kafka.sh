#!/usr/bin/env bash
# Writes the events of a batch to Kafka, byte for byte, with the id of the record as key: a partition has the events of a
# record in order. Ends with an error if the brokers have not confirmed all of them, and `consume` retries. Needs kcat.
#
#   ordersync consume --group kafka orders -- ./kafka.sh broker:9092 orders
set -euo pipefail
brokers=$1 topic=$2
shift 2
# Attributes have a fixed order, so the subject is the tenth text of a line. kcat takes what is before the first tab as key.
awk -F'"' '{ print $20 "\t" $0 }' | kcat -P -b "$brokers" -t "$topic" -K '\t' -X acks=all "$@"
