#!/bin/sh
# Records what the real sops makes of files: tests/data/sops/encrypted and, for each, what `sops -d` gives in
# tests/data/sops/clear. Needs sops and age-keygen (go install github.com/getsops/sops/v3/cmd/sops@v3.13.3,
# filippo.io/age/cmd/age-keygen) in PATH, and in SOPS_OLD the path of sops v3.8.1. The identities are made here, are committed, and protect nothing.
set -eu
: "${SOPS_OLD:?the path of sops 3.8.1}"
data=$(cd "$(dirname "$0")/../../data/sops" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
if [ ! -f "$data/one.agekey" ]; then
    for name in one two three stranger; do age-keygen -o "$data/$name.agekey" 2>/dev/null; done
fi
rm -rf "$data/encrypted" "$data/clear"
mkdir "$data/encrypted" "$data/clear"
public() { sed -n 's/^# public key: //p' "$data/$1.agekey"; }
one=$(public one); two=$(public two); three=$(public three)
cat "$data/one.agekey" "$data/two.agekey" > keys
export SOPS_AGE_KEY_FILE="$work/keys"

# record NAME FILE OPTIONS...: FILE's extension decides the format.
record() {
    name=$1 file=$2
    shift 2
    case $file in *.*) name=$name.${file##*.} ;; esac
    target="$data/encrypted/$name"
    cp "$file" "$target"
    sops encrypt --in-place "$@" "$target"
    format=$(expr "$*" : '.*--input-type \([a-z]*\)' || true)
    sops decrypt ${format:+--input-type $format --output-type $format} "$target" > "$data/clear/$name"
}

# With a configuration of its own: `record` names no recipients then.
configured() {
    name=$1 file=$2
    cat > "$work/.sops.yaml"
    cp "$file" "$work/case.${file##*.}"
    sops --config "$work/.sops.yaml" encrypt --in-place "$work/case.${file##*.}"
    cp "$work/case.${file##*.}" "$data/encrypted/$name.${file##*.}"
    sops decrypt "$work/case.${file##*.}" > "$data/clear/$name.${file##*.}"
    rm "$work/.sops.yaml" "$work/case.${file##*.}"
}

cat > secret.yaml <<'END'
apiVersion: v1
kind: Secret
metadata:
  name: database
  labels: {team: ml}
type: Opaque
stringData:
  url: postgres://app:hunter2@db/prod
  password: "hunter2"
data:
  token: aHVudGVyMg==
END
cat > types.yaml <<'END'
text: plain words
quoted: "yes"
number: 42
negative: -7
octal: 0777
float: 3.14
whole: 5.0
large: 1e30
tiny: 0.00000012
infinite: .inf
truth: true
lie: false
nothing: null
tilde: ~
empty: ""
blank: " "
date: 2024-01-02
time: 2024-01-02T03:04:05Z
zoned: 2024-01-02T03:04:05.678+02:00
lines: |
  first
  second
folded: >-
  one
  two
trailing: "ends with a break\n"
unicode: "grüße 🎉 ﻿"
control: "a\tb\u0001\u0085\u2028"
specials: "a: b # c"
quotes: "it's \"so\""
like_number: "0123"
like_time: "2024-01-02"
map: {}
list: []
nested:
  a:
    b: {c: deep, d: [1, two, 3.5, true, null, ""]}
  items:
  - name: x
    value: 1
  - - inner
    - [more, {k: v}]
END
cat > comments.yaml <<'END'
# above everything
first: a # beside
# above second
second:
  # inside
  third: b
  # below third

# before the list
list:
# in the list
- one
- two # beside two
# at the end
END
cat > lists.yaml <<'END'
only:
# nothing but this
none: []
nested:
- # first
  - a
  # second
  - b
- # third
  k: v # beside
# last
END
cat > documents.yaml <<'END'
apiVersion: v1
kind: Secret
metadata: {name: a}
stringData: {k: first}
---
apiVersion: v1
kind: Secret
metadata: {name: b}
stringData: {k: second, n: "1"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {k: third}
END
cat > suffixes.yaml <<'END'
open_unencrypted: seen
group_unencrypted: {a: seen, b: 1}
key_secret: hidden
nested:
  other: plain
  deep_secret: {a: hidden, b: [hidden, 2]}
numbers: [1, 2.5, true, 2024-01-02, null]
END
cat > marked.yaml <<'END'
plain: seen
# sops:secret
password: hunter2
group:
  # sops:secret
  token: abc
  name: seen
list:
- seen
# sops:secret
- hidden
# sops:open
after: seen
END
cat > types.json <<'END'
{"text": "words <b> & \"q\" \\ / \u2028", "number": 42, "negative": -7, "float": 3.5, "large": 1e30, "tiny": 1.5e-9,
 "big": 9007199254740993, "truth": true, "lie": false, "nothing": null, "empty": "", "map": {}, "list": [],
 "z": 1, "a": {"c": [1, "two", [3.25, false, null], {"k": "v"}], "b": "grüße 🎉"}, "lines": "a\nb\n"}
END
cat > secret.json <<'END'
{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "j"}, "stringData": {"b": "hunter2", "a": "x"}}
END
cat > values.env <<'END'
# a comment
USER=app
PASSWORD=hunter2

EMPTY=
URL=postgres://a:b@c/d?x=y#z
QUOTED="as it is"
LINES=first\nsecond
lower_unencrypted=seen
KEY_secret=hidden
END
cat > values.ini <<'END'
top = level

[database]
; the user
user = app
password = hunter2
long_key_name = a value
quoted = "with blanks "
hash = "a#b"
tick = """a`b"""

# another
[empty]

[other]
open_unencrypted = seen
key_secret = hidden
END
printf 'just text\nwith lines and hunter2\n' > plain.txt
printf 'no line break at the end' > short.bin
printf '{"data": "not what it seems", "x": 1}' > trap.conf
printf 'A=1\nB=two\n' > dotenv.props
printf '' > none.txt
: > lines.env; i=0; while [ $i -lt 60 ]; do echo "KEY_$i=value $i" >> lines.env; i=$((i+1)); done
{ i=0; while [ $i -lt 200 ]; do echo "k$i: value $i"; i=$((i+1)); done; } > many.yaml

for file in secret.yaml types.yaml comments.yaml lists.yaml documents.yaml suffixes.yaml many.yaml types.json secret.json values.env lines.env values.ini plain.txt short.bin trap.conf dotenv.props; do
    base=${file%.*}
    record "$base-default" "$file" --age "$one"
done
for file in secret.yaml types.yaml comments.yaml documents.yaml types.json secret.json values.env values.ini plain.txt; do
    record "${file%.*}-two-recipients" "$file" --age "$three,$two"
done
for file in secret.yaml documents.yaml secret.json; do
    record "${file%.*}-encrypted-regex" "$file" --age "$one" --encrypted-regex '^(data|stringData)$'
    record "${file%.*}-unencrypted-regex" "$file" --age "$one" --unencrypted-regex '^(apiVersion|kind|metadata|type)$'
done
for file in suffixes.yaml values.env values.ini; do
    record "${file%.*}-encrypted-suffix" "$file" --age "$one" --encrypted-suffix _secret
    record "${file%.*}-unencrypted-suffix" "$file" --age "$one" --unencrypted-suffix _secret
done
record types-encrypted-suffix types.yaml --age "$one" --encrypted-suffix text
record json-encrypted-suffix types.json --age "$one" --encrypted-suffix text
record marked-none marked.yaml --age "$one" --encrypted-regex '^nowhere$'
rule() { printf 'creation_rules:\n- age: %s\n%s' "$one" "$1"; }
rule '  encrypted_comment_regex: sops:secret
' | configured marked-encrypted-comment marked.yaml
rule '  unencrypted_comment_regex: sops:open
' | configured marked-unencrypted-comment marked.yaml
rule '  encrypted_comment_regex: sops:secret
  mac_only_encrypted: true
' | configured marked-mac-only marked.yaml
for file in secret.yaml types.yaml documents.yaml types.json values.env values.ini plain.txt; do
    rule '  mac_only_encrypted: true
' | configured "${file%.*}-mac-only" "$file"
done
for file in secret.yaml suffixes.yaml secret.json; do
    rule '  mac_only_encrypted: true
  encrypted_regex: "^(data|stringData|.*_secret)$"
' | configured "${file%.*}-mac-only-regex" "$file"
done
groups() {
    printf 'creation_rules:\n- shamir_threshold: %s\n  key_groups:\n' "$1"
    shift
    for key in "$@"; do printf '  - age: [%s]\n' "$key"; done
}
for file in secret.yaml types.json values.env values.ini plain.txt; do
    groups 2 "$one" "$two" "$three" | configured "${file%.*}-shamir" "$file"
done
groups 2 "$three" "$two" "$one" | configured shamir-other-order secret.yaml
groups 2 "$one" "$two" | configured shamir-all secret.yaml
record lines-two-recipients lines.env --age "$two,$three"
record many-encrypted-regex many.yaml --age "$one" --encrypted-regex '[02468]$'
record empty-file none.txt --age "$one"
# For the tests on an API server: no output may hold these.
for version in one two; do
    cat > "map-$version.yaml" <<END
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data:
  password: canary-$version-decrypted
  url: postgres://app:canary-$version-decrypted@db
  open_unencrypted: seen
END
    record "map-$version" "map-$version.yaml" --age "$one" --encrypted-regex '^(password|url)$'
done
# A manifest that is encrypted as a whole, and a password that looks like an expression.
cat > manifest.txt <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: whole}
data: {password: part-of-a-file}
END
record manifest-binary manifest.txt --age "$one"
cat > dollar.yaml <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: dollar}
data: {password: "pre${hunter2-{"}
END
record dollar-default dollar.yaml --age "$one" --encrypted-regex '^data$'
# Formats that the name does not tell.
cp values.env settings; cp values.ini config; cp types.yaml manifest
for format in dotenv:settings ini:config yaml:manifest; do
    file=${format#*:}
    record "untold-${file}" "$file" --age "$one" --input-type "${format%:*}" --output-type "${format%:*}"
done
# As an older sops wrote it; it knew no points in time.
for file in types.yaml lists.yaml comments.yaml documents.yaml marked.yaml types.json values.env values.ini plain.txt; do
    target="$data/encrypted/old-$file"
    grep -vE '^(date|time|zoned):' "$file" > "$target"
    "$SOPS_OLD" --encrypt --in-place --age "$one" "$target"
    "$SOPS_OLD" --decrypt "$target" > "$data/clear/old-$file"
done
ls "$data/encrypted" | wc -l
