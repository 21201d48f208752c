#!/bin/sh
# Installs a server that tests of rollouts need, once, and keeps it: `install.sh prometheus` and `install.sh haproxy` take
# Debian's package apart (no root), `install.sh mlflow` makes a virtual environment of Python. One that is on the PATH is used instead. Prints the program.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
what=${1:?prometheus, haproxy or mlflow}
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
# Takes Debian's package of that name apart, with those of its libraries that $2 matches and the machine lacks. Lists of apt's
# own where the machine's are missing or old, so that nothing of the machine is changed.
debian() {
  command -v apt-get >/dev/null 2>&1 || missing apt-get
  command -v dpkg-deb >/dev/null 2>&1 || missing dpkg-deb
  echo "taking Debian's $what apart for the tests: $1, once; kept in $out" >&2
  apt=$out/$what.apt
  rm -rf "$out/$what" "$apt"
  mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$apt/package"
  cd "$apt/package"
  user="-o APT::Sandbox::User=$(id -un)"
  own="-o Dir::State=$apt/state -o Dir::Cache=$apt/cache $user"
  # shellcheck disable=SC2086
  if ! take "$2" $user >&2; then
    { apt-get -qq $own update && take "$2" $own; } >&2
  fi
  for package in *.deb; do dpkg-deb -x "$package" "$out/$what"; done
  rm -rf "$apt"
}
take() {
  wanted=$1
  shift
  libraries=
  for library in $(apt-cache "$@" depends --recurse --important "$what" | grep -E "^$wanted"); do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$library" 2>/dev/null || true)
    [ "$state" = installed ] || libraries="$libraries $library"
  done
  # shellcheck disable=SC2086
  apt-get -qq "$@" download "$what" $libraries
}
case $what in
prometheus)
  program=$out/prometheus/usr/bin/prometheus
  if [ "$(cat "$out/prometheus.stamp" 2>/dev/null || true)" != "$identity" ]; then
    debian '20 MB' nothing
    echo "$identity" >"$out/prometheus.stamp"
  fi
  ;;
haproxy)
  program=$out/haproxy/run
  if [ "$(cat "$out/haproxy.stamp" 2>/dev/null || true)" != "$identity" ]; then
    debian '3 MB' 'lib(crypt1|lua|opentracing|pcre2|ssl|systemd0)'
    cat >"$program" <<END
#!/bin/sh
LD_LIBRARY_PATH=\$(echo "$out"/haproxy/usr/lib/*-linux-gnu*) exec "$out/haproxy/usr/sbin/haproxy" "\$@"
END
    chmod +x "$program"
    echo "$identity" >"$out/haproxy.stamp"
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
  echo "error: $what is none of prometheus, haproxy and mlflow" >&2
  exit 2
  ;;
esac
echo "$program"
