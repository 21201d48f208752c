#!/bin/sh
# Runs every fuzz target, or those that are named, for FUZZ_SECONDS each (60). Stable Rust is enough: libFuzzer needs
# coverage, which LLVM's pass gives without a sanitizer; memory safety is the compiler's in a crate without unsafe code.
set -eu
cd "$(dirname "$0")"
host=$(rustc -vV | sed -n 's/^host: //p')
out=${CARGO_TARGET_DIR:-../target}/fuzz
export CARGO_TARGET_DIR="$out"
# Level 4 with counters and comparisons is what libFuzzer reads. With --target, build scripts stay as they are.
RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares" \
  cargo build --release --target "$host" --bins
targets=${*:-yaml render template archive sops substitute}
for target in $targets; do
  corpus=$out/corpus/$target
  mkdir -p "$corpus"
  case $target in
  yaml) seeds="../tests/data/yaml ../manifests/examples" ;;
  render) seeds="../tests/data/kustomize ../tests/data/helm" ;;
  template) seeds="" ;;
  sops) seeds="../tests/data/sops" ;;
  *) seeds="" ;;
  esac
  echo "$target: ${FUZZ_SECONDS:-60} s"
  # 2 GiB and 25 s an input: whatever needs more is a finding.
  # shellcheck disable=SC2086
  "$out/$host/release/$target" "$corpus" $seeds -max_total_time="${FUZZ_SECONDS:-60}" -rss_limit_mb=2048 \
    -timeout=25 -max_len=65536 -artifact_prefix="$out/$target-" -verbosity=0 -print_final_stats=1
done
