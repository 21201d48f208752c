#!/bin/sh
# Installs a server that gates ask, once, and keeps it: `install.sh prometheus` takes Debian's package apart (no root),
# `install.sh mlflow` makes a virtual environment of Python. One that is on the PATH is used instead. Prints the program.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
what=${1:?prometheus or mlflow}
mlflow=3.17.2
out=${CARGO_TARGET_DIR:-$root/target}/monitoring
if command -v "$what" >/dev/null 2>&1; then
  command -v "$what"
  exit 0
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)
# One installation at a time, whoever asks; flock frees the lock when the process ends, however it ends.
exec 9>"$out/$what.lock"
flock 9
missing() {
  echo "error: '$1' is not on the PATH; with it, or with a '$what' that is, the tests have a real $what" >&2
  exit 2
}
identity=$(sha256sum "$here/install.sh" | cut -d' ' -f1)
case $what in
prometheus)
  program=$out/prometheus/usr/bin/prometheus
  if [ "$(cat "$out/prometheus.stamp" 2>/dev/null || true)" != "$identity" ]; then
    command -v apt-get >/dev/null 2>&1 || missing apt-get
    command -v dpkg-deb >/dev/null 2>&1 || missing dpkg-deb
    echo "taking Debian's prometheus apart for the tests: 20 MB, once; kept in $out" >&2
    rm -rf "$out/prometheus" "$out/apt"
    mkdir -p "$out/apt/state/lists/partial" "$out/apt/cache/archives/partial" "$out/apt/package"
    cd "$out/apt/package"
    # Lists of its own where the machine's are missing or old, so that nothing of the machine is changed.
    own="-o Dir::State=$out/apt/state -o Dir::Cache=$out/apt/cache -o APT::Sandbox::User=$(id -un)"
    if ! apt-get -qq -o "APT::Sandbox::User=$(id -un)" download prometheus >&2; then
      # shellcheck disable=SC2086
      { apt-get -qq $own update && apt-get -qq $own download prometheus; } >&2
    fi
    dpkg-deb -x prometheus_*.deb "$out/prometheus"
    rm -rf "$out/apt"
    echo "$identity" >"$out/prometheus.stamp"
  fi
  ;;
mlflow)
  program=$out/mlflow/bin/mlflow
  if [ "$(cat "$out/mlflow.stamp" 2>/dev/null || true)" != "$identity" ]; then
    command -v python3 >/dev/null 2>&1 || missing python3
    echo "installing MLflow $mlflow for the tests: 850 MB and a minute or two, once; kept in $out" >&2
    rm -rf "$out/mlflow"
    python3 -m venv "$out/mlflow" >&2
    "$out/mlflow/bin/pip" install --quiet --disable-pip-version-check --no-input "mlflow==$mlflow" >&2
    echo "$identity" >"$out/mlflow.stamp"
  fi
  ;;
*)
  echo "error: $what is neither prometheus nor mlflow" >&2
  exit 2
  ;;
esac
echo "$program"
