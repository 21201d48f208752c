#!/bin/sh
# Builds the registry of the CNCF's distribution project once and keeps it; a second call costs a hash of three files.
# Prints the program.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
out=${CARGO_TARGET_DIR:-$root/target}/control-plane
if ! command -v go >/dev/null 2>&1; then
  echo "error: 'go' is not on the PATH; the tests build a real registry with it (Go 1.26 or newer)" >&2
  exit 2
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)
exec 9>"$out/registry.lock"
flock 9
identity=$(cat "$here/go.mod" "$here/go.sum" "$here/build.sh" | sha256sum | cut -d' ' -f1)
if [ "$(cat "$out/registry.stamp" 2>/dev/null || true)" != "$identity" ]; then
  echo "building a registry for the tests: about 3 minutes, once; kept in $out" >&2
  cd "$here"
  go build -o "$out/registry.new" -ldflags "-s -w" github.com/distribution/distribution/v3/cmd/registry >&2
  mv "$out/registry.new" "$out/registry"
  echo "$identity" >"$out/registry.stamp"
fi
echo "$out/registry"
