#!/usr/bin/env python3
"""Asks a real kubectl what it reads from each case and writes cases.json beside this file.

Needs kubectl 1.32 on the PATH (`kubectl patch --local` needs no cluster). Run it after adding a case;
`cargo test yaml` then compares our reader with the recorded answers.
"""
import json
import pathlib
import subprocess
import tempfile

HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"

# Each stands after `v: `.
VALUES = """yes|Yes|YES|on|On|ON|y|Y|true|True|TRUE|no|No|NO|off|Off|OFF|n|N|false|False|FALSE|tRuE|yEs
0|7|-7|+7|0644|-0755|+0755|089|08|0o644|0O7|007|0x1F|0XfF|-0x10|0b101|0B1|-0b11|1_000|0_7|1__0|0x_1|0x|0b2|0b|_1|1_
1.0|5.|-0.0|0.0|.5|-.5|+.5|1e3|1E+2|1e-3|1234e56|1.10|1.5e3|1e|e1|1e+|.|-|+|-.|1.2.3|1e1e1|1.5_0|1_0.5|0.1|12e03|1e400
9223372036854775807|9223372036854775808|18446744073709551615|18446744073709551616|-9223372036854775808|-9223372036854775809
123456789012345678901234|12:30:00|190:20:30|2024-01-02|2024-01-02T03:04:05Z|2001-12-14t21:59:43.10-05:00
~|null|Null|NULL|nULL||"yes"|'no'|"1"|'~'|"<<"|a b|a#b|a #b|'it''s'|"a\\tb"|"\\x41"|"\\u263a"|"a\\
!!int "42"|!!bool "yes"|!!str 12|!!str yes|!!float 1|!!float "1.5"|!!binary aGVsbG8=|!!binary "!!"|!foo bar|!foo 12|! 12
!!null x|!!null ~|!!int abc|!!timestamp 2024-01-02|!!float abc|!!bool maybe|!<tag:yaml.org,2002:str> 5
.inf|-.inf|+.INF|.nan|.NaN|.Inf|.iNf|1.0e21|1e20|1e19|1e18|1.5e300|123e-400|0.1e1|1e2147483648
{}|[]|{a: 1}|[1, 2]|{a: , b: }|[a, , b]|{a}|{a, b}|[a: 1]|{"a":1}|{a:	1}|[ ]|{ }|[[1],[2]]|[1,]|{a: 1,}
@x|`x|%x|*x|&x y|- a|? a|: a|,a|!x|>x|=|<|<<|a: b|http://a/b|a:b|::|-a|--|---a|C:\\dir|100m|1Gi|v1.2|1.2.3-rc1""".replace("\n", "|").split("|")

DOCUMENTS = {
    "merge then keys": "b: &b {x: 1, y: 2}\nv:\n  <<: *b\n  x: 3\n",
    "key before merge": "b: &b {x: 1, y: 2}\nv:\n  x: 3\n  <<: *b\n",
    "merge of a list": "b: &b {x: 1}\nc: &c {x: 2, z: 3}\nv:\n  <<: [*b, *c]\n",
    "two merges": "b: &b {x: 1}\nc: &c {x: 2, z: 3}\nv:\n  <<: *b\n  <<: *c\n",
    "merge of an inline map": "v:\n  <<: {x: 1}\n  y: 2\n",
    "merge of a merge": "b: &b {x: 1}\nc: &c\n  <<: *b\n  y: 2\nv:\n  <<: *c\n",
    "merge of a number": "v: {<<: 5}\n",
    "merge of a list of numbers": "v: {<<: [5]}\n",
    "quoted merge key": 'v: {"<<": 5}\n',
    "merge of an alias to a list": "b: &b [{x: 1}]\nv: {<<: *b}\n",
    "duplicate key": "v: {a: 1, a: 2}\n",
    "duplicate key at the root": "v: 1\nv: 2\n",
    "number keys": "v: {1: a, 0x10: b, 01: c}\n",
    "boolean keys": "v: {yes: a, Off: b}\n",
    "float keys": "v: {1.10: a, 1e30: b, 5.: c}\n",
    "date keys": "v: {2024-01-02: a}\n",
    "null key": "v: {~: a}\n",
    "empty key": "v: {: a}\n",
    "list as key": "v: {[a]: b}\n",
    "map as key": "v: {{a: 1}: b}\n",
    "question mark key": "v:\n  ? a\n  : b\n",
    "alias as value": "b: &b hello\nv: *b\n",
    "alias as key": "b: &b hello\nv: {*b : 1}\n",
    "alias to a map": "b: &b {x: [1]}\nv: *b\n",
    "anchor redefined": "b: &b 1\nc: *b\nd: &b 2\nv: *b\n",
    "unknown alias": "v: *nobody\n",
    "self alias": "v: &v [*v]\n",
    "literal": "v: |\n  a\n   b\n\n  c\n",
    "literal strip": "v: |-\n  a\n\n",
    "literal keep": "v: |+\n  a\n\n",
    "literal at the end without a line break": "v: |\n  text",
    "folded": "v: >\n  a\n  b\n\n  c\n",
    "folded more indented": "v: >\n  a\n    b\n  c\n",
    "literal with an indicator": "v: |2\n    a\n",
    "plain over lines": "v: a\n  b\n  c\n",
    "double quoted over lines": 'v: "a\n  b\n\n  c"\n',
    "single quoted over lines": "v: 'a\n  b'\n",
    "windows line ends": "v: a\r\nw: |\r\n  b\r\n  c\r\n",
    "comments": "# one\nv: 1 # two\n# three\n",
    "list at the parent's indent": "v:\n- a\n- b: 1\n  c: 2\n",
    "nested lists": "v:\n- - a\n  - b\n- - c\n",
    "tab as indent": "v:\n\ta: 1\n",
    "tab after the colon": "v:\ta\n",
    "trailing blanks": "v: a   \nw: 'b'  \n",
    "flow over lines": "v: {a: 1,\n  b: [2,\n 3]}\n",
    "unclosed flow": "v: {a: 1\n",
    "unclosed quote": "v: 'a\n",
    "bad indent": "v:\n  a: 1\n b: 2\n",
    "colon in a plain value": "v: a: b\n",
    "emoji": "v: \U0001f600\n",
    "next line": "v: a\u0085b\n",
    "document end": "v: 1\n...\n",
    "empty values": "v:\nw:\n  x:\n",
    "null in a list": "v: [~, null, ]\n",
    "deep flow": "v: " + "[" * 100 + "]" * 100 + "\n",
    "alias bomb": "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(7)),
    "yes in annotations is not ours to judge": "v: {annotations: {a: yes}}\n",
    "octal file mode": "v: {defaultMode: 0400}\n",
    "string port": 'v: {port: "80", targetPort: http}\n',
    "git sha that is a float": "v: {sha: 1234e56, other: 0123e4}\n",
    "version that is a float": "v: {version: 1.10}\n",
    "cron": 'v: {schedule: "*/5 * * * *"}\n',
    "plain cron": "v: {schedule: 5 * * * *}\n",
    "sexagesimal": "v: 1:30\n",
    "percent": "v: 25%\n",
}


def ask(text):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", newline="") as file:
        file.write(text)
        file.flush()
        done = subprocess.run(
            ["kubectl", "patch", "--local", "-f", file.name, "-p", "{}", "--type", "merge", "-o", "json"],
            capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout) if done.returncode == 0 else None


def main():
    inputs = {f"value {value}": f"v: {value}\n" for value in VALUES} | DOCUMENTS
    cases = []
    for name, body in inputs.items():
        text = HEAD + body
        cases.append({"name": name, "input": text, "kubectl": ask(text)})
    path = pathlib.Path(__file__).with_name("cases.json")
    path.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    refused = sum(case["kubectl"] is None for case in cases)
    print(f"{len(cases)} cases, {refused} of them refused by kubectl")


main()
