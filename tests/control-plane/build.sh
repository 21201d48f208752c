#!/bin/sh
# Builds the control plane and KWOK once and keeps them; a second call costs a hash of five files.
# Prints the folder that holds: control-plane, kwok, kwok-stages/.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=${CARGO_TARGET_DIR:-$root/target}/control-plane
if ! command -v go >/dev/null 2>&1; then
  echo "error: 'go' is not on the PATH; the tests build a real Kubernetes API server with it (Go 1.26 or newer)" >&2
  exit 2
fi
# An API server of the user's own choice needs only the few lines that start it.
if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  mkdir -p "$out/assets"
  cd "$here"
  go build -tags assets -o "$out/assets/control-plane" . >&2
  echo "$out/assets"
  exit 0
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)
# One build at a time, whoever asks; flock frees the lock when the process ends, however it ends.
exec 9>"$out/lock"
flock 9
identity=$(cat "$here"/*.go "$here/go.mod" "$here/go.sum" "$here/kwok/go.mod" "$here/kwok/go.sum" "$here/build.sh" | sha256sum | cut -d' ' -f1)
if [ "$(cat "$out/stamp" 2>/dev/null || true)" = "$identity" ]; then
  echo "$out"
  exit 0
fi
echo "building etcd and Kubernetes 1.36.3 for the tests: about 5 minutes, once; kept in $out" >&2
begin=$(date +%s)
version=k8s.io/component-base/version
cd "$here"
# Without these the server calls itself v0.0.0 and clients refuse it.
go build -o "$out/control-plane.new" \
  -ldflags "-s -w -X $version.gitVersion=v1.36.3 -X $version.gitMajor=1 -X $version.gitMinor=36" . >&2
cd "$here/kwok"
go build -o "$out/kwok.new" -ldflags "-s -w" sigs.k8s.io/kwok/cmd/kwok >&2
stages=$(go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage
rm -rf "$out/kwok-stages.new" "$out/kwok-stages"
mkdir "$out/kwok-stages.new"
for folder in node/fast node/heartbeat pod/fast; do
  for file in "$stages/$folder"/*.yaml; do
    case $(basename "$file") in kustomization.yaml) continue ;; esac
    install -m 0644 "$file" "$out/kwok-stages.new/$(echo "$folder" | tr / -)-$(basename "$file")"
  done
done
mv "$out/control-plane.new" "$out/control-plane"
mv "$out/kwok.new" "$out/kwok"
mv "$out/kwok-stages.new" "$out/kwok-stages"
echo "$identity" >"$out/stamp"
echo "built in $(($(date +%s) - begin)) s" >&2
echo "$out"
