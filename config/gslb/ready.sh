#!/bin/sh
# Succeeds while this proxy can serve a service: ready.sh SERVICE [LEAST_HEADROOM_PERCENT]
exec curl -fsS -o /dev/null -m 1 "http://127.0.0.1:9901/readyz?service=$1&headroom=${2:-0}"
