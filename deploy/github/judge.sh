#!/usr/bin/env bash
# Measures a grid and judges it beside the earlier runs of a folder, for CI:
#   MEASURE=$'experiment=smoke\ntrials=3' JUDGE=trend HISTORY=raybench-history deploy/github/judge.sh
# MEASURE holds words of `raybench run`, JUDGE those of `raybench trend` or `raybench compare`, one a
# line. Writes Markdown to $GITHUB_STEP_SUMMARY and, with COMMENT_ON, as a comment on that pull request.
# The exit code is that of the judgement, or of the run where that is worse.
set -euo pipefail
: "${MEASURE:?words of raybench run, one a line}"
history=${HISTORY:-raybench-history}
mapfile -t measure < <(sed '/^[[:space:]]*$/d' <<< "$MEASURE")
mapfile -t judge < <(sed '/^[[:space:]]*$/d' <<< "${JUDGE:-trend}")
verb=${judge[0]}
if [[ "$verb" != trend && "$verb" != compare ]]; then
  echo "JUDGE begins with trend or compare, not with '$verb'." >&2
  exit 2
fi
now=$(date -u +%Y-%m-%dT%H%M%SZ)
results=$history/$now-${GITHUB_RUN_ID:-local}-${GITHUB_RUN_ATTEMPT:-1}
summary=${RUNNER_TEMP:-/tmp}/raybench-$$.md
mkdir -p "$history"
earlier=$(find "$history" -mindepth 1 -maxdepth 1 -type d | sort | tail -n 1)

code=0
python -m raybench run "${measure[@]}" "results.dir=$results" \
  ${GITHUB_SHA:+"tags.commit=${GITHUB_SHA:0:10}"} || code=$?
if ((code > 1)); then # refused or interrupted: nothing to judge
  exit "$code"
fi

verdict=0
if [[ "$verb" == trend ]]; then
  python -m raybench trend "$history"/*/ "${judge[@]:1}" format=markdown > "$summary" || verdict=$?
elif [[ -n "$earlier" ]]; then
  python -m raybench compare "$earlier" "$results" "${judge[@]:1}" format=markdown > "$summary" ||
    verdict=$?
else
  echo "### raybench compare: no earlier run in $history, so this one is the first." > "$summary"
fi
if ((code)); then
  printf '\nA point of this run failed; its log says which and why.\n' >> "$summary"
fi
if ((verdict == 2)); then
  printf '\nraybench %s refused these rows; its log says why.\n' "$verb" >> "$summary"
fi
cat "$summary"
cat "$summary" >> "${GITHUB_STEP_SUMMARY:-/dev/null}"
if [[ -n "${COMMENT_ON:-}" ]]; then # a token of a fork may not: then the summary has to do
  gh pr comment "$COMMENT_ON" --body-file "$summary" --edit-last --create-if-none ||
    echo "::warning::The comment on pull request $COMMENT_ON could not be written."
fi
((verdict > code)) && code=$verdict
{
  echo "exit-code=$code"
  echo "results=$results"
  echo "summary=$summary"
} >> "${GITHUB_OUTPUT:-/dev/null}"
exit "$code"
