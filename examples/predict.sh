#!/bin/sh
# Predicts one flower, then a batch, or the rows in FILE: sh predict.sh [FILE], with curl and jq.
set -eu
export LC_ALL=C
url=${IRIS_URL:-http://127.0.0.1:8000}
key=${IRIS_API_KEY:?Set it.}
seconds=${IRIS_TIMEOUT:-10}
one='{"sepal_length": 6.7, "sepal_width": 3.0, "petal_length": 5.2, "petal_width": 2.3}'
two='{"sepal_length": 6.0, "sepal_width": 2.7, "petal_length": 5.1, "petal_width": 1.6}'
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

# A prediction changes nothing, so its POST is safe to repeat. --retry repeats it after 429 and 503,
# once the time in Retry-After has passed (and after 408, 500, 502 and 504, which does no harm here);
# --retry-all-errors repeats it without an answer. As there is no --fail, other statuses are final.
# curl reads the key from stdin, because other users can see a program's arguments.
ask() {
    printf 'X-API-Key: %s\n' "$key" | curl --silent --show-error --header @- \
        --header 'Content-Type: application/json' --header "X-Request-ID: $id" \
        --connect-timeout 3 --max-time "$seconds" \
        --retry 2 --retry-all-errors --retry-max-time $((3 * seconds + 3)) \
        --data-binary "$1" --output "$answer" --write-out '%{http_code}' "${url%/}/v1/predict"
}

fail() {
    printf '%s\nrequest id %s\n' "$1" "$id" >&2
    exit 1
}

# Prints the lines for a problem document (RFC 9457).
explain() {
    jq -ner --arg status "$1" 'input | if has("title") | not then error else . end
        | "\($status) \(.title): \(.detail)",
          (if $status == "401" then
              "The service does not accept the key in IRIS_API_KEY." else empty end),
          (.errors // [] | .[] | "  " + ([if has("row") then "row \(.row)" else empty end,
                                          .field // empty, .message] | join(": ")))
        ' "$answer" 2>/dev/null ||
        echo "Status $1, but not from the service: is $url right?"
}

predict() {
    id=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    status=$(ask "$1") || fail "No answer from $url."
    if [ "$status" != 200 ] ||
        ! jq -ne 'input | has("model_version")' "$answer" >/dev/null 2>&1; then
        fail "$(explain "$status")"
    fi
    jq -r '.predictions // [.] | .[] | [.prediction, .confidence] | @tsv' "$answer" |
        while IFS='	' read -r label confidence; do
            printf '%s %.4f\n' "$label" "$confidence"
        done
}

if [ $# -gt 0 ]; then
    [ -r "$1" ] || { echo "Can't read $1." >&2; exit 1; }
    predict "@$1"
else # Two runs of curl: a single one would share the connection, but mix the two answers.
    predict "$one"
    predict "[$one, $two]"
fi
