#!/bin/sh
# Runs the tests of the fault table (tests/data/faults.txt) and writes docs/faults.md from what they said.
set -eu
cd "$(dirname "$0")/../.."
rows=tests/data/faults.txt
log=${CARGO_TARGET_DIR:-target}/faults.log
names=$(awk -F' [|] ' '!/^#/ && $4 != "-" { n = split($4, all, ", "); for (i = 1; i <= n; i++) print all[i] }' "$rows" | sort -u)
begin=$(date +%s)
# More runs of what is killed than `make test` has time for.
export DRIFTLESS_EVERY_WRITE=1
# A failed test is a row that does not hold, and no reason to stop.
# shellcheck disable=SC2086
cargo test --locked --test behaviour -- --exact --test-threads "${THREADS:-8}" $names >"$log" || true
if ! grep -q '^test result' "$log"; then
  tail -20 "$log" >&2
  exit 2
fi
# Limits of time are not held on a machine that others keep busy: what failed is run once more, with less beside it.
again=$(sed -n 's/^test \([^ ]*\) [.][.][.] FAILED.*/\1/p' "$log")
if [ -n "$again" ]; then
  # shellcheck disable=SC2086
  cargo test --locked --test behaviour -- --exact --test-threads 2 $again >>"$log" || true
fi
seconds=$(($(date +%s) - begin))
awk -F' [|] ' -v log_file="$log" '
  BEGIN {
    while ((getline line < log_file) > 0)
      if (split(line, part, " ") >= 4 && part[1] == "test" && part[3] == "...") said[part[2]] = part[4]
    print "# Faults\n"
    print "Written by `make faults` from what the tests said, on a real API server and real Git servers behind a proxy that fails in"
    print "chosen ways ([tests/harness/fault.rs](../tests/harness/fault.rs)). What must hold is the same everywhere: nothing is deleted"
    print "that is not known to have left Git, nothing is made twice, and when the fault ends everything comes to the head of the branch."
    print "A test that fails is run once more with less beside it, because limits of time are not held on a busy machine.\n"
    text = "| row | fault | how it was run | held | test |\n|---|---|---|---|---|\n"
  }
  /^#/ || NF < 4 { next }
  {
    held = $4 == "-" ? "no" : "yes"
    shown = ""
    n = split($4, all, ", ")
    for (i = 1; i <= n && $4 != "-"; i++) {
      if (said[all[i]] != "ok") held = said[all[i]] == "" ? "not run" : "no"
      shown = shown (i > 1 ? ", " : "") "`" all[i] "`"
    }
    count[held]++
    text = text "| " $1 " | " $2 " | " $3 " | " (held == "yes" ? held : "**" held "**") " | " shown " |\n"
  }
  END {
    printf "%d held, %d not held, %d not run.\n\n%s", count["yes"], count["no"], count["not run"], text
    if (count["not run"] > 0) exit 1
  }' "$rows" >docs/faults.md
sed -n '/ held, /p' docs/faults.md
echo "docs/faults.md is written after $seconds s; the tests' words are in $log"
