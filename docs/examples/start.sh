#!/usr/bin/env bash
# From a user's token to results, by curl. Needs GDI_PORTAL (the portal's address), GDI_TOKEN (the user's LS AAI access
# token, of a client that the broker has enrolled), GDI_WORKFLOW and GDI_DATASETS (a JSON list of ids).
set -euo pipefail
call() { curl --silent --show-error --fail-with-body --header "Authorization: Bearer $GDI_TOKEN" "$@"; }
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }

# May I, and would it run?
call "$GDI_PORTAL/v1/preflight" --json "{\"workflow\": \"$GDI_WORKFLOW\", \"datasets\": $GDI_DATASETS}"
echo

# Consent and start in one; send it again with the same key when there is no answer: it is one run.
body="{\"workflow\": \"$GDI_WORKFLOW\", \"datasets\": $GDI_DATASETS, \"consent\": {\"days\": 1}}"
run=$(call "$GDI_PORTAL/v1/runs" --header "Idempotency-Key: ${GDI_KEY:-example-$$}" --retry 3 --json "$body" | field id)

while state=$(call "$GDI_PORTAL/v1/runs/$run" | field state); do
  case $state in
    succeeded | empty) break ;;
    failed | refused | stopped) call "$GDI_PORTAL/v1/runs/$run" | field sentence >&2; exit 1 ;;
  esac
  sleep 2
done
call "$GDI_PORTAL/v1/runs/$run/files/answer.tsv"
